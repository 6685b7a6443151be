import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { runProgram, startProgram } from '../helpers/programs.ts';
import { SpandrelProcess } from '../helpers/spandrel-process.ts';
import type { Action, DiskState, SetUp } from './history.ts';
import { Patrons, type PatronsOptions } from './patrons.ts';
import { RULES } from './rules.ts';
import { StoredFiles } from './stored-files.ts';
import { within } from './within.ts';

/** The built product, which starts twice as fast as the sources. */
const MAIN = new URL('../../dist/cli/bin.js', import.meta.url).pathname;
const CLOCK = new URL('steppable-clock.ts', import.meta.url).href;
/** Descriptors for one client at a time, and not for many. */
const FEW_DESCRIPTORS = 48;
const START_MS = 60_000;
const RELOAD_MS = 30_000;
/** Running requests have a second to end (`shutdown.graceMs`); a longer stop is a finding. */
const STOP_MS = 20_000;
const BALLAST_BYTES = 2 ** 20;
/** Bytes a second. */
const FAST_SCRUB = 2 ** 26;
const REDIS_KEY = 'what all replicas of a history know';
/** May read everything, even if access is not open. */
export const PERSON = { username: 'node', password: 'correct horse' } as const;

export interface ReplicaOptions {
  readonly setUp: SetUp;
  readonly upstreamUrl: string;
  readonly redisUrl: string | undefined;
  /** The store has its own file system. */
  readonly hasOwnDisk: boolean;
  readonly patrons: PatronsOptions;
  /** PEM files for a registry listener with TLS. */
  readonly tls: { readonly cert: string; readonly key: string } | undefined;
  readonly htpasswdFile: string;
}

/** One proxy in a separate process, which can be stopped in every way and restarted on its store. */
export class Replica {
  readonly name: string;
  /** `storage.root` */
  readonly root: string;
  readonly files: StoredFiles;
  /** True if its end is expected. */
  isDown = true;
  #process: SpandrelProcess | undefined;
  #urls = { url: '', adminUrl: '' };
  #patrons: Patrons;
  readonly #disk: string;
  readonly #folder: string;
  readonly #options: ReplicaOptions;
  #diskState: DiskState = 'fine';
  #output = '';
  #clockSteps = 0;
  #reloads = 0;
  #death: string | undefined;

  /**
   * @param disk of the store
   * @param folder of the configuration
   */
  constructor(name: string, disk: string, folder: string, options: ReplicaOptions) {
    this.name = name;
    this.#disk = disk;
    this.#folder = folder;
    this.#options = options;
    this.#patrons = new Patrons(options.patrons);
    this.root = join(disk, 'store');
    this.files = new StoredFiles(this.root);
  }

  get url(): string {
    return this.#urls.url;
  }

  get adminUrl(): string {
    return this.#urls.adminUrl;
  }

  get pid(): number {
    return this.#process?.pid ?? 0;
  }

  get diskState(): DiskState {
    return this.#diskState;
  }

  /** The clients' connections to it. */
  get patrons(): Patrons {
    return this.#patrons;
  }

  /** Its output, over all restarts. */
  get output(): string {
    return this.#output + (this.#process?.stdout ?? '') + (this.#process?.stderr ?? '');
  }

  async start(rules: number): Promise<void> {
    await mkdir(this.#folder, { recursive: true });
    await this.#configure(rules);
    await writeFile(this.#clockPath, '0');
    const args = ['serve', '--config', this.#configPath];
    const child = startProgram('node', ['--import', CLOCK, MAIN, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      environment: { HISTORIES_CLOCK: this.#clockPath },
    });
    const started = new SpandrelProcess(args, {}, undefined, child);
    this.#process = started;
    this.isDown = false;
    this.#clockSteps = 0;
    this.#reloads = 0;
    void started.exitStatus().then((status) => this.#onExit(started, status));
    this.#urls = await within(START_MS, `start of ${this.name}`, started.listening());
  }

  /** @throws Error if it ended unexpectedly */
  assertAlive(): void {
    if (this.#death !== undefined) throw new Error(this.#death);
  }

  #onExit(ended: SpandrelProcess, status: number | null): void {
    this.#output += ended.stdout + ended.stderr;
    if (this.#process === ended) this.#process = undefined;
    if (!this.isDown)
      this.#death = `${this.name} ended by itself with status ${status}: ${tail(ended.stderr)}`;
  }

  /** Loads other rules. Resolves when it has accepted or refused them. */
  async reload(rules: number): Promise<void> {
    await this.#configure(rules);
    const child = this.#process;
    if (child === undefined) return;
    this.#reloads++;
    child.kill('SIGHUP');
    await this.#said(child, /"cause":"SIGHUP",("problems":.*)?"msg":/g, this.#reloads, RELOAD_MS);
  }

  async stepClock(seconds: number): Promise<void> {
    const child = this.#process;
    if (child === undefined) return;
    await writeFile(this.#clockPath, String(seconds));
    this.#clockSteps++;
    child.kill('SIGUSR2');
    await this.#said(child, /clock off by/g, this.#clockSteps, RELOAD_MS);
  }

  /** Limits its store's file system. Without one of its own, limits the size of its files instead. */
  async setDisk(state: DiskState): Promise<void> {
    if (!this.#options.hasOwnDisk) return this.#limit('fsize', state === 'fine' ? 'unlimited:' : '4096:');
    if (state === this.#diskState) return;
    if (this.#diskState === 'read-only') await runProgram('umount', ['--lazy', this.#disk]);
    await rm(join(this.#disk, 'ballast'), { force: true });
    this.#diskState = state;
    if (state === 'full') await this.#fillDisk();
    if (state !== 'read-only') return;
    // A mount in which a file is open for writing cannot become read-only: it has to be that from its first
    // moment on.
    const still = `${this.#disk}-read-only`;
    await mkdir(still, { recursive: true });
    await runProgram('mount', ['--bind', this.#disk, still]);
    await runProgram('mount', ['-o', 'remount,bind,ro', still]);
    await runProgram('mount', ['--bind', still, this.#disk]);
    await runProgram('umount', ['--lazy', still]);
  }

  async #fillDisk(): Promise<void> {
    const path = join(this.#disk, 'ballast');
    for (let bytes = BALLAST_BYTES; bytes >= 512; bytes /= 2) {
      for (;;) {
        try {
          await writeFile(path, Buffer.alloc(bytes), { flag: 'a' });
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
          break;
        }
      }
    }
  }

  /**
   * Damages stored files.
   * @param onChange as for {@link StoredFiles.damage}
   */
  async damage(
    { folder, ...damage }: Extract<Action, { do: 'damage' }>,
    onChange: (digest: string) => void,
  ): Promise<void> {
    if (this.#diskState === 'fine') await this.files.damage(folder, damage, onChange);
  }

  async limitDescriptors(areFew: boolean): Promise<void> {
    await this.#limit('nofile', areFew ? `${FEW_DESCRIPTORS}:` : '4096:');
  }

  async #limit(what: string, soft: string): Promise<void> {
    if (this.#process === undefined) return;
    await runProgram('prlimit', ['--pid', String(this.pid), `--${what}=${soft}`]);
  }

  async kill(): Promise<void> {
    await this.#end('SIGKILL');
  }

  /** @throws Error if it does not end in time, or not with status 0 */
  async terminate(): Promise<void> {
    const status = await this.#end('SIGTERM');
    if (status !== undefined && status !== 0)
      throw new Error(`${this.name} ends with status ${status} after SIGTERM: ${tail(this.output)}`);
  }

  async #end(signal: NodeJS.Signals): Promise<number | null | undefined> {
    const child = this.#process;
    this.isDown = true;
    if (child === undefined) return undefined;
    child.kill(signal);
    try {
      return await within(STOP_MS, `end of ${this.name} after ${signal}`, child.exitStatus());
    } finally {
      child.kill('SIGKILL');
      await child.exitStatus();
      this.#process = undefined;
      this.dropConnections();
    }
  }

  /** Disconnects all clients. */
  dropConnections(): void {
    this.#patrons.destroy();
    this.#patrons = new Patrons(this.#options.patrons);
  }

  async #said(child: SpandrelProcess, what: RegExp, times: number, ms: number): Promise<void> {
    const deadline = performance.now() + ms;
    while ([...(child.stdout + child.stderr).matchAll(what)].length < times) {
      if (this.#process !== child) return;
      if (performance.now() > deadline)
        throw new Error(`${this.name} has not said ${what.source} in ${ms} ms`);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  get #configPath(): string {
    return join(this.#folder, 'spandrel.yaml');
  }

  get #clockPath(): string {
    return join(this.#folder, 'clock');
  }

  async #configure(rules: number): Promise<void> {
    const { setUp, upstreamUrl: url, redisUrl, tls, htpasswdFile } = this.#options;
    const { storeBytes, memoryBytes, tagSeconds, background, decays, threads } = setUp;
    const key = setUp.redisKey ? { key: REDIS_KEY } : {};
    const auth = setUp.access === 'upstream' ? { auth: { kind: 'basic', ...PERSON } } : {};
    const config = {
      listen: { port: 0, ...(tls === undefined ? {} : { tls }) },
      admin: { port: 0 },
      upstreams: [{ name: 'up', url, host: 'registry.test', default: true, ...auth }],
      upstream: {
        connectTimeoutMs: 2000,
        headersTimeoutMs: 2000,
        stallTimeoutMs: 2000,
        retries: 1,
        circuit: { openMs: 200 },
      },
      storage: { root: this.root, maxBytes: storeBytes, scrub: decays ? FAST_SCRUB : 0 },
      cache: { memoryBytes, ...(redisUrl === undefined ? {} : { redis: { url: redisUrl, ...key } }) },
      index: {
        spanBytes: 65_536,
        threads,
        readSpanBytes: 65_536,
        minLayerBytes: 0,
        platforms: ['linux/amd64'],
        holdMs: 1500,
        rules: RULES[rules],
      },
      spans: { threads },
      fill: { parallel: 3, chunkBytes: 65_536, background },
      manifests: { tagSeconds, negativeSeconds: 1 },
      access: {
        proofSeconds: 3,
        kind: setUp.access,
        ...(setUp.access === 'htpasswd' ? { htpasswdFile } : {}),
      },
      shutdown: { graceMs: 1000 },
    };
    await writeFile(`${this.#configPath}.new`, JSON.stringify(config));
    await rename(`${this.#configPath}.new`, this.#configPath);
  }
}

function tail(text: string): string {
  return text.slice(-1500);
}
