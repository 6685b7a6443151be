import { readFile } from 'node:fs/promises';

import { type App, type AppOptions, createApp } from '../../src/app.ts';
import { parseConfig } from '../../src/config/parse-config.ts';
import type { Config } from '../../src/config/config-keys.ts';
import { countResources, expectAtRest, expectGone } from './faults/at-rest.ts';
import { collectingLogger, collectOutput } from './collected-output.ts';
import { OwnedWaits } from './faults/owned-waits.ts';
import { noteSecretsOf } from './secrets.ts';
import { TemporaryFolder } from './temporary-folder.ts';

export interface RunningAppOptions {
  readonly upstreams: readonly object[];
  /** Further keys of the configuration, as environment variables. */
  readonly environment?: Readonly<Record<string, string>>;
  /** Variables of the process that are no configuration. */
  readonly processEnvironment?: Readonly<Record<string, string>>;
  /** A store to go on with; without one the app gets its own, which is removed with it. */
  readonly root?: string;
  readonly pause?: AppOptions['pause'];
  readonly clock?: AppOptions['clock'];
  /** What starts have read, instead of what the app learns. */
  readonly profiles?: AppOptions['profiles'];
  /** The test ends the app in the middle of its work; it is not expected to come to rest before that. */
  readonly endsAtWork?: boolean;
  /** An app that started earlier starts threads meanwhile. It ends later, and is checked for those. */
  readonly isFollower?: boolean;
}

/**
 * The whole proxy in this process, on free ports of loopback. In the end it has let go of all that it used,
 * whatever failed before.
 */
export class RunningApp implements AsyncDisposable {
  readonly url: string;
  readonly adminUrl: string;
  readonly root: string;
  readonly #app: App;
  readonly #options: RunningAppOptions;
  /** Of the store, where the app has its own. */
  readonly #folder: TemporaryFolder | undefined;
  readonly #resources: ReadonlyMap<string, number>;
  readonly #waits: OwnedWaits;
  #isOver = false;

  private constructor(
    app: App,
    urls: { registryUrl: string; adminUrl: string },
    options: RunningAppOptions & { readonly root: string },
    folder: TemporaryFolder | undefined,
    before: { readonly resources: ReadonlyMap<string, number>; readonly waits: OwnedWaits },
  ) {
    this.#app = app;
    this.url = urls.registryUrl;
    this.adminUrl = urls.adminUrl;
    this.root = options.root;
    this.#options = options;
    this.#folder = folder;
    this.#resources = before.resources;
    this.#waits = before.waits;
  }

  static async start(options: RunningAppOptions): Promise<RunningApp> {
    const before = { resources: countResources(), waits: new OwnedWaits() };
    await using starting = new AsyncDisposableStack();
    const folder = options.root === undefined ? starting.use(await TemporaryFolder.create()) : undefined;
    const config = configure(options, options.root ?? folder?.path ?? '');
    noteSecretsOf(config);
    const { processEnvironment: environment = {}, clock, pause, profiles } = options;
    const paused = pause === undefined ? {} : { pause };
    const { app, urls } = await before.waits.run(async () => {
      const created = starting.use(
        await createApp(config, collectingLogger(), { environment, clock, profiles, ...paused }),
      );
      return { app: created, urls: await created.listen() };
    });
    starting.move();
    const used = { ...options, root: config.storage.root };
    return new RunningApp(app, urls, used, folder, before);
  }

  /** Go on with other values of keys that can be reloaded. */
  async reload(environment: Readonly<Record<string, string>>): Promise<void> {
    const config = configure({ ...this.#options, environment }, this.root);
    await this.#waits.run(() => this.#app.reload(config, readFile));
  }

  /** As on SIGTERM, before it stops accepting connections. */
  drain(): Promise<void> {
    return this.#waits.run(() => this.#app.drain());
  }

  /** Value of a metric by its full name with labels; 0 if it has not been touched. */
  async metric(name: string): Promise<number> {
    const text = await (await fetch(`${this.adminUrl}/metrics`)).text();
    const line = text.split('\n').find((candidate) => candidate.startsWith(`${name} `));
    return line === undefined ? 0 : Number(line.slice(name.length + 1));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isOver) return;
    this.#isOver = true;
    await using ending = new AsyncDisposableStack();
    ending.use(this.#folder);
    const metrics = async (): Promise<string> => (await this.#app.events.printMetrics()).text;
    const proxy = { metrics, root: this.root, waits: this.#waits };
    const before = this.#options.isFollower === true ? undefined : this.#resources;
    ending.defer(() => expectGone(proxy, before));
    ending.use(this.#app);
    collectOutput(await metrics());
    if (this.#options.endsAtWork !== true) await expectAtRest(proxy);
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
