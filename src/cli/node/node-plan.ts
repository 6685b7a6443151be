import { join } from 'node:path';

import { SpandrelError } from '../../core/errors.ts';
import { NodeFiles } from '../doctor/node-files.ts';

/** A file of the node, before and after. */
export interface FileChange {
  readonly path: string;
  /** `undefined`: there is no such file. */
  readonly before: string | undefined;
  readonly after: string;
}

/** A service that must read its files again, and the command for it. */
export interface Reload {
  readonly service: string;
  readonly command: readonly string[];
}

/** What is to be set up. */
export interface NodeWish {
  readonly proxy: URL;
  /** As in image names. */
  readonly registries: readonly string[];
  readonly isLazy: boolean;
}

/**
 * Changes of the node's files that are not made yet. As {@link NodeFiles} it shows the files as they will be,
 * so that the checks of `spandrel doctor` judge the plan.
 */
export class NodePlan extends NodeFiles {
  readonly #after = new Map<string, string>();
  readonly #before = new Map<string, string | undefined>();
  readonly #reloads = new Map<string, Reload>();
  /** Why something is not set up. */
  readonly left: string[] = [];

  override async readText(path: string): Promise<string | undefined> {
    return this.#after.get(path) ?? super.readText(path);
  }

  override async list(folder: string): Promise<string[]> {
    const planned = [...this.#after.keys()].flatMap((path) => {
      const rest = path.startsWith(`${folder}/`) ? path.slice(folder.length + 1) : '';
      return rest === '' ? [] : [rest.split('/')[0] ?? ''];
    });
    return [...new Set([...(await super.list(folder)), ...planned])].toSorted();
  }

  override async exists(path: string): Promise<boolean> {
    return this.#after.has(path) || super.exists(path);
  }

  /**
   * Plans the content of a file that `edit` makes of the present one.
   * @param reload what must read it then
   * @returns whether it changes; false also if `edit` refuses the file with CONFIG_INVALID, which is noted
   */
  async edit(path: string, edit: (text: string) => string, reload?: Reload): Promise<boolean> {
    const before = await this.readText(path);
    if (this.denied.includes(path)) {
      this.left.push(`${path} cannot be read: run this as root`);
      return false;
    }
    let after: string;
    try {
      after = edit(before ?? '');
    } catch (error) {
      if (!(error instanceof SpandrelError) || error.code !== 'CONFIG_INVALID') throw error;
      this.left.push(error.message);
      return false;
    }
    if (after === (before ?? '')) return false;
    if (!this.#before.has(path)) this.#before.set(path, before);
    this.#after.set(path, after);
    if (reload !== undefined) this.#reloads.set(reload.service, reload);
    return true;
  }

  get changes(): FileChange[] {
    return [...this.#after].map(([path, after]) => ({ path, before: this.#before.get(path), after }));
  }

  get reloads(): Reload[] {
    return [...this.#reloads.values()];
  }
}

export const restart = (service: string): Reload => ({ service, command: ['systemctl', 'restart', service] });

/** Where containerd looks for `hosts.toml` unless it is told otherwise. */
export const HOSTS_FOLDER = '/etc/containerd/certs.d';

export function hostsFile(folder: string, registry: string): string {
  return join(folder, registry, 'hosts.toml');
}
