import type { App } from '../app.ts';
import type { Config } from '../config/schema.ts';
import { isSpandrelError } from '../core/errors.ts';
import type { Logger } from '../telemetry/logger.ts';
import { FileWatch } from './watch-files.ts';

export interface ConfigReloadDeps {
  readonly app: App;
  readonly logger: Logger;
  /** The configuration file, where there may be one. */
  readonly file: string;
  readonly read: () => Promise<Config>;
}

/** Has a running app take over a changed configuration: on SIGHUP, and when its file or one that it names changes. */
export class ConfigReload implements Disposable {
  readonly #deps: ConfigReloadDeps;
  readonly #watch = new FileWatch(() => this.#ask('file'));
  readonly #onSignal = (): void => this.#ask('SIGHUP');
  #last: Promise<void> = Promise.resolve();

  constructor(deps: ConfigReloadDeps, config: Config) {
    this.#deps = deps;
    this.#watch.replace(this.#filesOf(config));
    process.on('SIGHUP', this.#onSignal);
  }

  /** One after the other: the last word counts. */
  #ask(cause: string): void {
    this.#last = this.#last.then(() => this.#reload(cause));
  }

  async #reload(cause: string): Promise<void> {
    const { app, logger, read } = this.#deps;
    try {
      const config = await read();
      const needRestart = await app.reload(config);
      this.#watch.replace(this.#filesOf(config));
      logger.info({ cause }, 'configuration taken over');
      if (needRestart.length > 0) logger.warn({ keys: needRestart }, 'these changes need a restart');
    } catch (error) {
      if (!isSpandrelError(error, 'CONFIG_INVALID')) throw error;
      const problems = error.message.split('\n').map((line) => line.trim());
      logger.error({ cause, problems }, 'the new configuration is refused, the old one stays');
    }
  }

  #filesOf({ access, admin, listen }: Config): string[] {
    const named = [
      access.htpasswdFile,
      admin.tokenFile,
      ...Object.values(admin.tls),
      ...Object.values(listen.tls),
    ];
    return [this.#deps.file, ...named.filter((path) => path !== undefined)];
  }

  [Symbol.dispose](): void {
    process.removeListener('SIGHUP', this.#onSignal);
    this.#watch[Symbol.dispose]();
  }
}
