import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { hash } from 'bcrypt';

import { parseDigest } from '../../src/core/digest.ts';
import { ScriptedRegistry } from '../registry/scripted-registry.ts';
import { EMPTY_CONFIG } from '../../src/soci/soci-index.ts';
import type { FaultAction } from '../registry/faults.ts';
import { Certificate } from '../helpers/upstreams/certificate.ts';
import { basic } from '../helpers/upstreams/private-registry.ts';
import { tryProgram } from '../helpers/programs.ts';
import { RedisServer } from '../helpers/upstreams/redis-server.ts';
import { TemporaryFolder } from '../helpers/temporary-folder.ts';
import {
  type Content,
  documentsOf,
  blobsOf,
  type KnownRepository,
  type KnownTop,
  makeContent,
  TAGS,
} from './content.ts';
import { Disturbances, disturbanceOf } from './disturbances.ts';
import type { Action, SetUp, UpstreamFault } from './history.ts';
import { Judge, Wrong } from './judge.ts';
import { makePushedIndex, type PushedIndex } from './pushed-index.ts';
import { PERSON, Replica, type ReplicaOptions } from './replica.ts';
import { policyOf } from './rules.ts';

/** Size of each replica's file system. */
const DISK_BYTES = 64 * 2 ** 20;
/** Stores smaller than the images evict blobs all the time. */
const AMPLE_BYTES = 16 * 2 ** 20;
/** Requests by digest: wrong bytes of a tag, list or token cannot be detected. */
const VERIFIABLE = /\/(blobs|manifests)\/sha256:[0-9a-f]+$/;
/** Longer than the proxy waits for Redis. */
const HANG_MS = 3_000;

/** An action that is not a client's request. */
export type Change = Exclude<
  Action,
  { do: 'get' | 'pull' | 'mount' | 'intrude' | 'warm' | 'delete' | 'rest' }
>;

/** Registry, Redis and replicas of one history, and what was done to them. */
export class World implements AsyncDisposable {
  readonly setUp: SetUp;
  readonly content: Content;
  readonly pushed: PushedIndex | undefined;
  readonly upstream: ScriptedRegistry;
  readonly redis: RedisServer | undefined;
  readonly replicas: readonly Replica[];
  readonly disturbances: Disturbances;
  readonly judge: Judge;
  /** Position in `RULES`. */
  rules = 0;
  /** Targets of each tag since the last rest; the last one is current. */
  readonly tags = new Map<string, number[]>();
  readonly #answers = new Map<string, string>();
  readonly #stack: AsyncDisposableStack;
  #release = Promise.withResolvers<void>();
  #redisRuns = true;

  private constructor(
    setUp: SetUp,
    parts: Pick<World, 'content' | 'pushed' | 'upstream' | 'redis' | 'replicas'>,
    stack: AsyncDisposableStack,
  ) {
    this.setUp = setUp;
    const upstreamBlobs = new Set(parts.content.repositories.flatMap((of) => [...blobsOf(of).keys()]));
    this.disturbances = new Disturbances({ pullsNeedStore: setUp.redirects, upstreamBlobs });
    this.judge = new Judge(this.disturbances);
    this.content = parts.content;
    this.pushed = parts.pushed;
    this.upstream = parts.upstream;
    this.redis = parts.redis;
    this.replicas = parts.replicas;
    this.#stack = stack;
    this.#noteSize();
  }

  static async create(setUp: SetUp): Promise<World> {
    await using stack = new AsyncDisposableStack();
    const folder = stack.use(await TemporaryFolder.create()).path;
    const { latencyMs, redirects, access } = setUp;
    const auth = access === 'upstream' ? ({ kind: 'bearer', ...PERSON } as const) : { kind: 'none' as const };
    const upstream = stack.use(await ScriptedRegistry.start({ latencyMs, redirectBlobs: redirects, auth }));
    const certificate = setUp.wire === 'http' ? undefined : stack.use(await Certificate.create());
    const htpasswdFile = join(folder, 'htpasswd');
    await writeFile(htpasswdFile, `${PERSON.username}:${await hash(PERSON.password, 4)}\n`);
    const redis = setUp.redis ? stack.use(await RedisServer.start()) : undefined;
    const replicas: Replica[] = [];
    for (let place = 0; place < setUp.replicas; place++) {
      const own = join(folder, String(place));
      await mkdir(own);
      const hasOwnDisk = await mountDisk(own);
      if (hasOwnDisk) stack.defer(() => unmountDisk(own));
      const options: ReplicaOptions = {
        setUp,
        upstreamUrl: upstream.url,
        redisUrl: redis?.url,
        hasOwnDisk,
        patrons: {
          wire: setUp.wire,
          ca: certificate && (await readFile(certificate.cert)),
          authorization: access === 'open' ? undefined : basic(PERSON.username, PERSON.password),
        },
        tls: certificate && { cert: certificate.cert, key: certificate.key },
        htpasswdFile,
      };
      const replica = new Replica(`replica ${place}`, own, `${own}-config`, options);
      stack.defer(() => replica.kill());
      replicas.push(replica);
    }
    await Promise.all(replicas.map((replica) => replica.start(0)));
    const content = makeContent(setUp.seed);
    const pushed = await makePushedIndex(content, setUp.pushed);
    const world = new World(setUp, { content, pushed, upstream, redis, replicas }, stack.move());
    await world.#publish();
    return world;
  }

  repository(place: number): KnownRepository {
    const { repositories } = this.content;
    return repositories[place % repositories.length] as KnownRepository;
  }

  replica(place: number): Replica {
    return this.replicas[place % this.replicas.length] as Replica;
  }

  /** True if the upstream has a correct pushed index of an image. */
  hasPushedIndex({ name }: KnownRepository, top: KnownTop): boolean {
    const { pushed } = this.setUp;
    const isOf = this.pushed?.top === top && this.pushed.repository.name === name;
    return isOf && (pushed === 'right' || pushed === 'missing');
  }

  /** Positions of the targets that a tag's response may have. */
  topsOf(repository: KnownRepository, tag: string): readonly number[] {
    return this.tags.get(`${repository.name}:${tag}`) ?? [];
  }

  async #publish(): Promise<void> {
    for (const repository of this.content.repositories) {
      await this.#publishBlobs(repository);
      for (const { digest, bytes, mediaType } of documentsOf(repository).values())
        this.upstream.addManifest(repository.name, digest, bytes, mediaType);
      for (const [place, tag] of TAGS.entries())
        this.moveTag(repository, tag, place % repository.tops.length);
    }
    if (this.setUp.pushed !== 'missing') await this.#publishZtocs();
    const { repository, index } = this.pushed ?? {};
    if (repository !== undefined && index !== undefined)
      this.upstream.addManifest(repository.name, index.digest, index.bytes, index.mediaType);
  }

  async #publishZtocs(): Promise<void> {
    if (this.pushed === undefined) return;
    const { name } = this.pushed.repository;
    await this.upstream.addBlob(name, Uint8Array.from(EMPTY_CONFIG));
    for (const [digest, ztoc] of this.pushed.ztocs)
      await this.upstream.addBlob(name, ztoc, parseDigest(digest));
  }

  async #publishBlobs(repository: KnownRepository): Promise<void> {
    for (const [digest, bytes] of blobsOf(repository))
      await this.upstream.addBlob(repository.name, new Uint8Array(bytes), parseDigest(digest));
  }

  moveTag(repository: KnownRepository, tag: string, top: number): void {
    const place = top % repository.tops.length;
    const key = `${repository.name}:${tag}`;
    this.tags.set(key, [...(this.tags.get(key) ?? []).filter((other) => other !== place), place]);
    const digest = repository.tops[place]?.document.digest ?? '';
    this.upstream.content.addTag(repository.name, tag, parseDigest(digest));
  }

  /**
   * Asserts that an image always has the same response under the same rules.
   * @throws Wrong
   */
  noteAnswer({ name }: KnownRepository, top: KnownTop, digest: string): void {
    const key = `${top.document.digest} ${JSON.stringify(policyOf(this.rules, name))}`;
    const before = this.#answers.get(key);
    if (before !== undefined && before !== digest)
      throw new Wrong(
        `${name} is answered with ${digest} for ${top.document.digest}, and was with ${before}`,
      );
    this.#answers.set(key, digest);
  }

  /** Performs an action that is not a client's request. Resolves when it is done. */
  async change(action: Change): Promise<void> {
    switch (action.do) {
      case 'moveTag':
        return this.moveTag(
          this.repository(action.repository),
          TAGS[action.tag % TAGS.length] ?? 'latest',
          action.top,
        );
      case 'lose':
        return this.#lose(this.content.layers[action.layer % this.content.layers.length]?.digest ?? '');
      case 'rules':
        this.disturbances.note('otherRules');
        return this.#reload(action.rules);
      case 'fault':
        return this.#addFault(action.on, action.times, action.fault);
      case 'clearFaults':
        return this.#clearFaults();
      case 'redis':
        return this.#disturbRedis(action.what);
      case 'disk':
        if (action.state !== 'fine') this.disturbances.note('fullDisk');
        return this.replica(action.replica).setDisk(action.state);
      case 'damage':
        return this.#damage(action);
      case 'descriptors':
        if (action.areFew) this.disturbances.note('fewDescriptors');
        return this.replica(action.replica).limitDescriptors(action.areFew);
      case 'clock':
        return this.replica(action.replica).stepClock(action.stepSeconds);
      case 'kill':
      case 'term':
        return this.#restart(this.replica(action.replica), action.do);
      case 'pause':
        return new Promise((resolve) => setTimeout(resolve, action.ms));
    }
  }

  /** Ends all faults. */
  async mend(): Promise<void> {
    this.#clearFaults();
    if (this.redis !== undefined) await this.#disturbRedis('resume');
    for (const repository of this.content.repositories) await this.#publishBlobs(repository);
    await this.#publishZtocs();
    for (const replica of this.replicas) {
      replica.assertAlive();
      await replica.setDisk('fine');
      await replica.limitDescriptors(false);
      if (replica.isDown) await replica.start(this.rules);
    }
    // A replica that cannot read its configuration keeps the old one.
    await this.#reload(this.rules);
  }

  /**
   * Everything is at rest: earlier faults explain nothing from here on, but partial blobs are still
   * unverified.
   */
  forgive(): void {
    this.disturbances.clear();
    this.disturbances.keepUnverified(
      new Set(this.replicas.flatMap(({ files }) => [...files.partialBlobs()])),
    );
    this.#noteSize();
    for (const [tag, tops] of this.tags) this.tags.set(tag, tops.slice(-1));
  }

  #noteSize(): void {
    if (this.setUp.storeBytes < AMPLE_BYTES) this.disturbances.note('smallStore');
  }

  async #damage(action: Extract<Action, { do: 'damage' }>): Promise<void> {
    const { disturbances } = this;
    const { replica, folder } = action;
    disturbances.note(folder === 'blobs' || folder === 'partial' ? 'rot' : 'lostRecords');
    await this.replica(replica).damage(action, (digest) => {
      if (folder === 'partial') disturbances.noteUnverified(digest);
      // A partial file may just have been verified, and be renamed before the byte changes.
      disturbances.noteRotten(digest);
    });
  }

  #lose(digest: string): void {
    this.disturbances.note('missing');
    for (const { name } of this.content.repositories)
      this.upstream.content.removeBlob(name, parseDigest(digest));
  }

  async #reload(rules: number): Promise<void> {
    this.rules = rules;
    await Promise.all(this.replicas.map((replica) => replica.reload(rules)));
  }

  #addFault(on: string, times: number, fault: UpstreamFault): void {
    this.disturbances.note(disturbanceOf(fault));
    const isCorrupt = fault.kind === 'corrupt';
    const isLie = isCorrupt || fault.kind === 'length';
    this.upstream.faults.add({
      match: ({ method, path }) =>
        path.includes(on) && (!isCorrupt || (method === 'GET' && VERIFIABLE.test(path))),
      times,
      action: this.#faultAction(fault),
      onUse: ({ path }) => {
        if (isLie) this.disturbances.noteUnverified(path.slice(path.lastIndexOf('/') + 1));
      },
    });
  }

  #faultAction(fault: UpstreamFault): FaultAction {
    if (fault.kind === 'hold') return { kind: 'hold', until: this.#release.promise };
    return fault.kind === 'corrupt' ? { kind: 'corrupt', atShare: fault.share } : fault;
  }

  #clearFaults(): void {
    this.upstream.faults.clear();
    this.#release.resolve();
    this.#release = Promise.withResolvers();
  }

  async #disturbRedis(what: Extract<Action, { do: 'redis' }>['what']): Promise<void> {
    const { redis } = this;
    if (redis === undefined) return;
    if (what === 'kill') {
      this.#redisRuns = false;
      return redis.stop();
    }
    if (!this.#redisRuns) {
      await redis.resume();
      this.#redisRuns = true;
    }
    if (what === 'hang') await redis.command(`CLIENT PAUSE ${HANG_MS} ALL`);
    if (what === 'flush') await redis.command('FLUSHALL');
    if (what === 'garble') await redis.command(`EVAL "${GARBLE}" 0`);
  }

  async #restart(replica: Replica, how: 'kill' | 'term'): Promise<void> {
    replica.assertAlive();
    this.disturbances.note('ended');
    // A store that cannot be locked prevents the start.
    if (replica.diskState === 'read-only') await replica.setDisk('fine');
    await (how === 'kill' ? replica.kill() : replica.terminate());
    await replica.start(this.rules);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#clearFaults();
    await this.#stack[Symbol.asyncDispose]();
  }
}

/** Changes one byte of each value. */
const GARBLE = `for place, key in ipairs(redis.call('keys', '*')) do local length = redis.call('strlen', key)
 local at = (place * 7919) % math.max(1, length)
 redis.call('setrange', key, at, string.char((string.byte(redis.call('getrange', key, at, at)) + 1) % 256)) end`.replaceAll(
  '\n',
  '',
);

/** A disk that became read-only is mounted twice. */
async function unmountDisk(path: string): Promise<void> {
  while ((await tryProgram('umount', ['--lazy', path])).status === 0);
}

/** False if mounting is not allowed. */
async function mountDisk(path: string): Promise<boolean> {
  const options = ['-t', 'tmpfs', '-o', `size=${DISK_BYTES}`, 'spandrel-histories', path];
  return (await tryProgram('mount', options)).status === 0;
}
