import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { type App, createApp } from '../../src/app.ts';
import { parseConfig } from '../../src/config/parse-config.ts';
import type { Config } from '../../src/config/schema.ts';
import { collectingLogger, collectOutput } from './collected-output.ts';
import { noteSecretsOf } from './secrets.ts';

export interface RunningAppOptions {
  readonly upstreams: readonly object[];
  /** Further keys of the configuration, as environment variables. */
  readonly environment?: Readonly<Record<string, string>>;
  /** Variables of the process that are no configuration. */
  readonly processEnvironment?: Readonly<Record<string, string>>;
  /** A store to go on with; without one the app gets its own, which is removed with it. */
  readonly root?: string;
}

/** The whole proxy in this process, on free ports of loopback. */
export class RunningApp implements AsyncDisposable {
  readonly url: string;
  readonly adminUrl: string;
  readonly root: string;
  readonly #app: App;
  readonly #options: RunningAppOptions;
  readonly #ownsRoot: boolean;

  private constructor(
    app: App,
    urls: { registryUrl: string; adminUrl: string },
    options: RunningAppOptions & { readonly root: string },
    ownsRoot: boolean,
  ) {
    this.#app = app;
    this.url = urls.registryUrl;
    this.adminUrl = urls.adminUrl;
    this.root = options.root;
    this.#options = options;
    this.#ownsRoot = ownsRoot;
  }

  static async start(options: RunningAppOptions): Promise<RunningApp> {
    const root = options.root ?? (await mkdtemp(join(tmpdir(), 'spandrel-store-')));
    const config = configure(options, root);
    noteSecretsOf(config);
    const app = await createApp(config, collectingLogger(), {
      environment: options.processEnvironment ?? {},
    });
    return new RunningApp(app, await app.listen(), { ...options, root }, options.root === undefined);
  }

  /** Go on with other values of keys that can be reloaded. */
  async reload(environment: Readonly<Record<string, string>>): Promise<void> {
    await this.#app.reload(configure({ ...this.#options, environment }, this.root), readFile);
  }

  /** Value of a metric by its full name with labels; 0 if it has not been touched. */
  async metric(name: string): Promise<number> {
    const text = await (await fetch(`${this.adminUrl}/metrics`)).text();
    const line = text.split('\n').find((candidate) => candidate.startsWith(`${name} `));
    return line === undefined ? 0 : Number(line.slice(name.length + 1));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    collectOutput((await this.#app.metrics.print()).text);
    await this.#app[Symbol.asyncDispose]();
    if (this.#ownsRoot) await rm(this.root, { recursive: true, force: true });
  }
}

function configure({ upstreams, environment }: RunningAppOptions, root: string): Config {
  return parseConfig({
    yaml: '',
    environment: {
      SPANDREL_LISTEN_PORT: '0',
      SPANDREL_ADMIN_PORT: '0',
      SPANDREL_STORAGE_ROOT: root,
      SPANDREL_UPSTREAMS: JSON.stringify(upstreams),
      ...environment,
    },
  });
}
