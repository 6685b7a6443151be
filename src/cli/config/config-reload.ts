import type { App } from '../../app.ts';
import { configFiles } from '../../config/config-files.ts';
import type { Config } from '../../config/config-keys.ts';
import { isSpandrelError, SpandrelError } from '../../core/errors.ts';
import { findRisks } from './find-risks.ts';
import { fileReader, type ReadConfig } from './read-config.ts';
import { FileWatch } from './file-watch.ts';

export interface ConfigReloadDeps {
  readonly app: Pick<App, 'reload' | 'events'>;
  readonly read: () => Promise<ReadConfig>;
  /** Makes what the app takes over out of what is written. */
  readonly complete: (config: Config) => Config;
  /** After how long what has been refused is read again. */
  readonly retryMs?: number;
}

/** What has been refused is looked at again: not every change is seen, and a disk may just have had no room for it. */
const RETRY_MS = 10_000;

type Cause = 'start' | 'file' | 'SIGHUP' | 'retry';

/**
 * Has a running app take over a changed configuration: on SIGHUP, and when its file or one that it names changes. What opens
 * something without saying so is refused like what is wrong.
 */
export class ConfigReload implements Disposable {
  readonly #deps: ConfigReloadDeps;
  readonly #watch = new FileWatch(() => this.#ask('file'));
  readonly #onSignal = (): void => this.#ask('SIGHUP');
  #current: ReadConfig;
  #last: Promise<void> = Promise.resolve();
  #retry: NodeJS.Timeout | undefined;
  /** Of the configuration that has been refused. */
  #problems = '';
  #isDisposed = false;

  /** @param current what the app has been started with */
  constructor(deps: ConfigReloadDeps, current: ReadConfig) {
    this.#deps = deps;
    this.#current = current;
    this.#watch.replace(pathsOf(current));
    process.on('SIGHUP', this.#onSignal);
    // What has changed since it was read, and before it was watched.
    this.#ask('start');
  }

  /** One after the other: the last word counts. */
  #ask(cause: Cause): void {
    this.#last = this.#last.then(() => this.#reload(cause));
  }

  async #reload(cause: Cause): Promise<void> {
    if (this.#isDisposed) return;
    clearTimeout(this.#retry);
    const { app } = this.#deps;
    try {
      const next = await this.#deps.read();
      if (this.#isDisposed || (cause === 'start' && isSame(this.#current, next))) return;
      // What is missing or wrong in a file that is refused may come into the files that it names.
      this.#watch.replace([...pathsOf(this.#current), ...pathsOf(next)]);
      const needRestart = await this.#takeOver(next);
      app.events.configApplied(cause, needRestart);
      this.#problems = '';
    } catch (error) {
      if (!isSpandrelError(error, 'CONFIG_INVALID')) throw error;
      this.#refuse(cause, error.message);
    }
  }

  async #takeOver(next: ReadConfig): Promise<readonly string[]> {
    const { app, complete } = this.#deps;
    const risks = findRisks(this.#current, next);
    if (risks.length > 0) throw new SpandrelError('CONFIG_INVALID', risks.join('\n'));
    const needRestart = await app.reload(complete(next.config), fileReader(next));
    this.#current = next;
    this.#watch.replace(pathsOf(next));
    return needRestart;
  }

  #refuse(cause: Cause, message: string): void {
    const { app, retryMs = RETRY_MS } = this.#deps;
    const problems = message.split('\n').map((line) => line.trim());
    app.events.configRefused(cause, problems, cause === 'retry' && this.#problems === message);
    this.#problems = message;
    this.#retry = setTimeout(() => this.#ask('retry'), retryMs).unref();
  }

  [Symbol.dispose](): void {
    this.#isDisposed = true;
    clearTimeout(this.#retry);
    process.removeListener('SIGHUP', this.#onSignal);
    this.#watch[Symbol.dispose]();
  }
}

function pathsOf({ file, config }: ReadConfig): string[] {
  return [file, ...configFiles(config)];
}

function isSame({ contents: before }: ReadConfig, { contents: after }: ReadConfig): boolean {
  return (
    before.size === after.size &&
    [...after].every(([path, bytes]) => {
      const last = before.get(path);
      return bytes instanceof Buffer && last instanceof Buffer && last.equals(bytes);
    })
  );
}
