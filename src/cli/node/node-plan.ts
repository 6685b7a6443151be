import { join } from 'node:path';

import { isSpandrelError } from '../../core/errors.ts';
import { NodeFiles } from '../doctor/node-files.ts';

/** A file of the node, before and after. */
export interface FileChange {
  readonly path: string;
  /** `undefined`: there is no such file. */
  readonly before: string | undefined;
  /** `undefined`: the file is removed. */
  readonly after: string | undefined;
  /** What must read it then. */
  readonly reload: Reload | undefined;
}

/** A service that must read its files again, and the command for it. */
export interface Reload {
  readonly service: string;
  readonly command: readonly string[];
}

/** A file that is as an earlier run has left it. */
export interface OwnFile {
  /** As it was before the first run; `undefined` if there was none. */
  readonly original: string | undefined;
  readonly reload: Reload | undefined;
}

/** What is to be set up. */
export interface NodeWish {
  readonly proxy: URL;
  /** As in image names. */
  readonly registries: readonly string[];
  readonly isLazy: boolean;
}

/**
 * Changes of the node's files that are not made yet. A plan starts from the files as they were before earlier
 * runs, so that the last run decides. As {@link NodeFiles} it shows the files as they will be, so that the
 * checks of `spandrel doctor` judge the plan.
 */
export class NodePlan extends NodeFiles {
  readonly #own: ReadonlyMap<string, OwnFile>;
  readonly #planned = new Map<string, { readonly after: string; readonly reload: Reload | undefined }>();
  /** Why something is not set up. */
  readonly left: string[] = [];
  /** Clients that the node has. */
  readonly clients: string[] = [];
  /** containerd is not told of a snapshotter that is not installed. */
  isWithoutSnapshotter = false;

  /** @param own files that earlier runs have written, by path */
  constructor(root: string, own: ReadonlyMap<string, OwnFile>) {
    super(root);
    this.#own = own;
  }

  override async readText(path: string): Promise<string | undefined> {
    const planned = this.#planned.get(path);
    if (planned !== undefined) return planned.after;
    const own = this.#own.get(path);
    return own === undefined ? super.readText(path) : own.original;
  }

  override async list(folder: string): Promise<string[]> {
    const planned = [...this.#planned.keys()].flatMap((path) => {
      const rest = path.startsWith(`${folder}/`) ? path.slice(folder.length + 1) : '';
      return rest === '' ? [] : [rest.split('/')[0] ?? ''];
    });
    return [...new Set([...(await super.list(folder)), ...planned])].toSorted();
  }

  override async exists(path: string): Promise<boolean> {
    if (this.#planned.has(path)) return true;
    const own = this.#own.get(path);
    return own === undefined ? super.exists(path) : own.original !== undefined;
  }

  /**
   * Plans the content of a file that `edit` makes of the present one. A file that `edit` refuses with
   * CONFIG_INVALID, or that would not be written back byte for byte, is noted, and stays.
   * @param reload what must read it then
   */
  async edit(path: string, edit: (text: string) => string, reload?: Reload): Promise<void> {
    const before = await this.readText(path);
    if (this.denied.includes(path)) {
      this.left.push(`${path} cannot be read: run this as root`);
      return;
    }
    if (before?.includes('\uFFFD') === true) {
      this.left.push(`${path} is not UTF-8: correct it first`);
      return;
    }
    try {
      const after = edit(before ?? '');
      if (after !== (before ?? '')) this.#planned.set(path, { after, reload });
    } catch (error) {
      if (!isSpandrelError(error, 'CONFIG_INVALID')) throw error;
      this.left.push(error.message);
    }
  }

  /** What differs from the files of the node, those that an earlier run has written included. */
  async changes(): Promise<FileChange[]> {
    const changes: FileChange[] = [];
    for (const path of new Set([...this.#planned.keys(), ...this.#own.keys()])) {
      const planned = this.#planned.get(path);
      const own = this.#own.get(path);
      const before = await super.readText(path);
      const after = planned?.after ?? own?.original;
      const reload = planned?.reload ?? own?.reload;
      if (before !== after) changes.push({ path, before, after, reload });
    }
    return changes;
  }
}

/** What must read the changed files again, each once. */
export function reloadsOf(changes: readonly Pick<FileChange, 'reload'>[]): Reload[] {
  const reloads = changes.flatMap(({ reload }) => reload ?? []);
  return [...new Map(reloads.map((reload) => [reload.service, reload])).values()];
}

export const restart = (service: string): Reload => ({ service, command: ['systemctl', 'restart', service] });

/** Where containerd looks for `hosts.toml` unless it is told otherwise. */
export const HOSTS_FOLDER = '/etc/containerd/certs.d';

export function hostsFile(folder: string, registry: string): string {
  return join(folder, registry, 'hosts.toml');
}
