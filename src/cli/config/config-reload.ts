import type { App } from '../../app.ts';
import { configFiles } from '../../config/config-files.ts';
import type { Config, ConfigPath } from '../../config/config-keys.ts';
import { isSpandrelError, SpandrelError } from '../../core/errors.ts';
import { shortageOf } from '../../core/system/shortage.ts';
import { needsRestart } from '../../live-settings.ts';
import { findRisks } from './find-risks.ts';
import { fileReader, type ReadConfig } from './read-config.ts';
import { FileWatch } from './file-watch.ts';

export interface ConfigReloadDeps {
  readonly app: Pick<App, 'reload' | 'events'>;
  readonly read: () => Promise<ReadConfig>;
  /** Completes a parsed configuration for the app. */
  readonly complete: (config: Config) => Config;
  /** Delay before a refused configuration is read again. */
  readonly retryMs?: number;
}

/** A refused configuration is read again: some changes are not noticed, and a disk may have been full. */
const RETRY_MS = 10_000;

type Cause = 'start' | 'file' | 'SIGHUP' | 'retry';

/**
 * Reloads the configuration of a running app on SIGHUP and when its file, or a file that it names, changes.
 * Refuses an invalid configuration, and one that drops a restriction without saying so.
 */
export class ConfigReload implements Disposable {
  readonly #deps: ConfigReloadDeps;
  readonly #watch = new FileWatch(() => this.#ask('file'));
  readonly #onSignal = (): void => this.#ask('SIGHUP');
  /** What the app was started with. */
  readonly #started: ReadConfig;
  #current: ReadConfig;
  #last: Promise<void> = Promise.resolve();
  #retry: NodeJS.Timeout | undefined;
  /** Problems of the last refused configuration. */
  #problems = '';
  #isDisposed = false;

  /** @param current the configuration that the app was started with */
  constructor(deps: ConfigReloadDeps, current: ReadConfig) {
    this.#deps = deps;
    this.#started = current;
    this.#current = current;
    this.#watch.replace(pathsOf(current));
    process.on('SIGHUP', this.#onSignal);
    // Files may have changed after they were read and before they were watched.
    this.#ask('start');
  }

  /** Reloads run one after the other, so the last change wins. */
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
      // Watch the files of a refused configuration too: its problem may be in one of them.
      this.#watch.replace([...pathsOf(this.#current), ...pathsOf(next)]);
      const needRestart = await this.#takeOver(next);
      app.events.configApplied(cause, needRestart);
      this.#problems = '';
    } catch (error) {
      if (!isSpandrelError(error, 'CONFIG_INVALID')) throw error;
      // Without a descriptor nothing is known of the files.
      if (shortageOf(error) === undefined) this.#refuse(cause, error.message);
      else this.#readAgain(cause);
    }
  }

  async #takeOver(next: ReadConfig): Promise<readonly string[]> {
    const { app, complete } = this.#deps;
    const risks = findRisks(this.#current, next);
    if (risks.length > 0) throw new SpandrelError('CONFIG_INVALID', risks.join('\n'));
    const needRestart = await app.reload(complete(next.config), fileReader(next));
    const otherFiles = changedFiles(this.#started, next).filter(needsRestart);
    this.#current = next;
    this.#watch.replace(pathsOf(next));
    return [...new Set([...needRestart, ...otherFiles])];
  }

  #refuse(cause: Cause, message: string): void {
    const { app } = this.#deps;
    const problems = message.split('\n').map((line) => line.trim());
    app.events.configRefused(cause, problems, cause === 'retry' && this.#problems === message);
    this.#problems = message;
    this.#readAgain('retry');
  }

  #readAgain(cause: Cause): void {
    const { retryMs = RETRY_MS } = this.#deps;
    this.#retry = setTimeout(() => this.#ask(cause), retryMs).unref();
  }

  [Symbol.dispose](): void {
    this.#isDisposed = true;
    clearTimeout(this.#retry);
    process.removeListener('SIGHUP', this.#onSignal);
    this.#watch[Symbol.dispose]();
  }
}

function pathsOf({ file, config }: ReadConfig): string[] {
  return [file, ...configFiles(config).map(({ path }) => path)];
}

/** The keys that name a file whose content has changed. */
function changedFiles(before: ReadConfig, after: ReadConfig): ConfigPath[] {
  return configFiles(after.config)
    .filter(({ path }) => before.contents.has(path))
    .filter(({ path }) => !isSameContent(before.contents.get(path), after.contents.get(path)))
    .map(({ key }) => key);
}

function isSameContent(before: Buffer | Error | undefined, after: Buffer | Error | undefined): boolean {
  return before instanceof Buffer && after instanceof Buffer && before.equals(after);
}

function isSame({ contents: before }: ReadConfig, { contents: after }: ReadConfig): boolean {
  return (
    before.size === after.size &&
    [...after].every(([path, content]) => isSameContent(before.get(path), content))
  );
}
