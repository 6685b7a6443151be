import { setTimeout as pause } from 'node:timers/promises';

import { digestOf } from '../../src/core/digest.ts';
import { MEDIA_TYPES } from '../../src/core/media-types.ts';
import { CONTAINERD, OCI } from '../helpers/lazy-app.ts';
import { RunningApp } from '../helpers/running-app.ts';
import { type Home, type KnownImage, type NamedLayer, type PoolLayer, World } from './world.ts';

/** Requests so far, and the responses that the repository's own registry would not have given. */
export interface Played {
  readonly requests: number;
  readonly findings: readonly string[];
}

interface Answer {
  readonly status: number;
  readonly type: string;
  readonly digest: string;
  readonly body: Buffer;
  /** True if the connection was cut before the end. */
  readonly isCut: boolean;
}

/** An index or zTOC that was named to a repository, and what it was made from. */
interface Derived {
  readonly path: string;
  readonly digest: string;
  /** `undefined` for a zTOC. */
  readonly manifest: string | undefined;
  readonly layers: readonly string[];
}

const BUSY = ['WORKER_FAILED', 'ANSWER_PENDING', 'INDEX_PENDING', 'OVERLOADED'];
const MAX_TRIES = 50;
const PAUSE_MS = 100;
const ROUNDS = 30;
const ASKED_AT_ONCE = 4;
const SECRET_BYTES = 48;
const SOCI = encodeURIComponent(MEDIA_TYPES.sociIndexV1);

/** Random pushes, and random concurrent pulls. Deterministic for a seed, except for timing. */
export async function play(seed: number): Promise<Played> {
  await using world = await World.create(seed);
  const player = new Player(world);
  await player.play();
  return { requests: player.requests, findings: player.findings };
}

class Player {
  requests = 0;
  readonly findings: string[] = [];
  readonly #world: World;
  readonly #derived = new Map<string, Derived>();
  /** SOCI indexes by image and by the layers of it that a repository has. */
  readonly #indexes = new Map<string, string>();
  #app: RunningApp | undefined;

  constructor(world: World) {
    this.#world = world;
  }

  async play(): Promise<void> {
    const world = this.#world;
    await using stack = new AsyncDisposableStack();
    stack.defer(async () => this.#app?.[Symbol.asyncDispose]());
    for (const home of world.homes) world.push(home);
    for (let round = 0; round < ROUNDS; round++) {
      if (this.#app === undefined || world.chance(0.05)) await this.#replace();
      if (world.chance(0.3)) world.push(world.pick(world.homes));
      if (world.chance(0.1)) await this.#evict(world.pick(world.layers));
      const questions = Array.from({ length: ASKED_AT_ONCE }, () => this.#question());
      await Promise.all(questions.map((ask) => ask()));
    }
  }

  /** Replaces the proxy by a replica that has seen none of the images. */
  async #replace(): Promise<void> {
    await this.#app?.[Symbol.asyncDispose]();
    this.#derived.clear();
    this.#app = await RunningApp.start({
      upstreams: this.#world.registries.map(({ name, url }) => ({ name, url })),
      environment: {
        SPANDREL_INDEX_MIN_LAYER_BYTES: '0',
        SPANDREL_INDEX_SPAN_BYTES: '65536',
        SPANDREL_INDEX_PLATFORMS: '["linux/amd64"]',
        SPANDREL_MANIFESTS_NEGATIVE_SECONDS: '0',
        SPANDREL_UPSTREAM_RETRIES: '0',
      },
    });
  }

  async #evict({ digest }: PoolLayer): Promise<void> {
    await fetch(`${this.#app?.adminUrl}/api/v1/blobs/${digest}`, { method: 'DELETE' });
  }

  /**
   * Chooses the request now. The response is judged by what the repository has at the time of the request.
   */
  #question(): () => Promise<void> {
    const world = this.#world;
    const home = world.pick(world.homes);
    const image = home.images.get('a') ?? home.images.get('b');
    const layer = world.pick(world.layers);
    const derived = [...this.#derived.values()];
    const known = derived.length === 0 ? undefined : world.pick(derived);
    const elsewhere = world.pick(world.homes).images.values().next().value;
    const start = Math.floor(world.random() * layer.bytes.length);
    return world.pick<() => Promise<void>>([
      () => this.#askTag(home),
      () => this.#askManifest(home, elsewhere),
      () => this.#askBlob(home, layer, undefined),
      () => this.#askBlob(home, layer, { start, end: Math.min(layer.bytes.length, start + 5000) }),
      () => this.#askFile(home, layer),
      () => this.#askTar(home, layer),
      () => this.#askLayer(home, layer),
      () => this.#askReferrers(home, image),
      () => this.#askReferrers(home, elsewhere),
      () => this.#askImageFile(home, image),
      () => this.#askDerived(home, known),
      () => this.#askDerived(home, known),
    ]);
  }

  /** Repeats the request while the proxy is overloaded, as clients do. */
  async #ask(home: Home, path: string, headers: Record<string, string> = {}): Promise<Answer> {
    for (let tries = 1; ; tries++) {
      const answer = await this.#askOnce(home, path, headers);
      const isBusy = answer.status === 503 && BUSY.some((code) => answer.body.includes(code));
      if (!isBusy || tries === MAX_TRIES) return answer;
      await pause(PAUSE_MS);
    }
  }

  async #askOnce(home: Home, path: string, headers: Record<string, string>): Promise<Answer> {
    this.requests++;
    const url = `${this.#app?.url}/v2/${home.registry.name}/${home.name}/${path}`;
    const response = await fetch(url, { headers: { 'accept-encoding': 'identity', ...headers } });
    const found = {
      status: response.status,
      type: response.headers.get('content-type') ?? '',
      digest: response.headers.get('docker-content-digest') ?? '',
    };
    const parts: Uint8Array[] = [];
    try {
      for await (const part of response.body ?? []) parts.push(part);
      return { ...found, body: Buffer.concat(parts), isCut: false };
    } catch {
      return { ...found, body: Buffer.concat(parts), isCut: true };
    }
  }

  /**
   * A response must be right or, if the repository has nothing to serve, an error without a trace of other
   * repositories.
   */
  #judge(home: Home, path: string, answer: Answer, wanted: Buffer | undefined): void {
    const { status, body, isCut } = answer;
    const isGiven = status === 200 || status === 206;
    const what = `${home.registry.name}/${home.name} ${path}: ${status}${isCut ? ', cut' : ''}`;
    if (wanted === undefined) {
      if (isGiven && !isCut) this.findings.push(`${what}, which its registry would not give`);
      this.#judgeLeaks(home, what, body);
    } else if (!isGiven || isCut) this.findings.push(`${what} ${body.toString('latin1', 0, 200)}`);
    else if (!body.equals(wanted)) this.findings.push(`${what}, with other bytes`);
  }

  #judgeLeaks(home: Home, what: string, body: Buffer): void {
    for (const layer of this.#world.layers) {
      if (this.#world.has(home, layer) || this.#world.isAnsweredFor(home, layer)) continue;
      const secrets = [
        layer.bytes.subarray(100, 100 + SECRET_BYTES),
        layer.content.subarray(0, SECRET_BYTES),
      ];
      if (secrets.some((secret) => body.includes(secret)))
        this.findings.push(`${what}: bytes of ${layer.digest}, which its registry does not give`);
    }
  }

  async #askTag(home: Home): Promise<void> {
    const tag = this.#world.pick(['a', 'b']);
    const before = home.images.get(tag);
    const answer = await this.#ask(home, `manifests/${tag}`);
    this.#judge(home, `manifests/${tag}`, answer, before?.manifest);
    if (before !== undefined && answer.type !== MEDIA_TYPES.ociManifest)
      this.findings.push(`${home.name} ${tag} is called ${answer.type}`);
  }

  async #askManifest(home: Home, image: KnownImage | undefined): Promise<void> {
    if (image === undefined) return;
    const path = `manifests/${image.digest}`;
    const own = home.registry.repository(home.name).manifests.get(image.digest);
    const answer = await this.#ask(home, path);
    // The upstream may claim that a blob of another of its repositories is in this one.
    const isSaid = home.registry.lies.hasAll && this.#isWithin(home, image.digest);
    if (own === undefined && isSaid && answer.body.equals(image.manifest)) return;
    this.#judge(home, path, answer, own);
  }

  #isWithin({ registry }: Home, manifest: string): boolean {
    const homes = this.#world.homes.filter((home) => home.registry === registry);
    return homes.some(({ name }) => registry.repository(name).manifests.has(manifest));
  }

  async #askBlob(
    home: Home,
    layer: PoolLayer,
    range: { readonly start: number; readonly end: number } | undefined,
  ): Promise<void> {
    const path = `blobs/${layer.digest}`;
    const sent = home.registry.blob(home.name, layer.digest);
    const headers = range && { range: `bytes=${range.start}-${range.end - 1}` };
    const answer = await this.#ask(home, path, headers ?? {});
    const wanted = sent && (range === undefined ? sent : sent.subarray(range.start, range.end));
    const { start, end } = range ?? { start: 0, end: layer.bytes.length };
    const elsewhere = this.#world.sentElsewhere(home, layer);
    if (elsewhere !== undefined && answer.body.equals(elsewhere.subarray(start, end))) return;
    if (this.#world.has(home, layer) || sent === undefined) {
      this.#judge(home, path, answer, wanted);
      return;
    }
    // If the registry sends wrong bytes, a range may be those or an error, and the whole blob must be an
    // error.
    const isGiven = answer.status === 206 && wanted?.equals(answer.body) === true;
    if (!isGiven) this.#judge(home, path, answer, undefined);
  }

  async #askFile(home: Home, layer: PoolLayer): Promise<void> {
    const path = `_soci/layers/${layer.digest}/files/${layer.path}`;
    const answer = await this.#ask(home, path);
    this.#judgeDecompressed(home, path, answer, layer, layer.content);
  }

  async #askTar(home: Home, layer: PoolLayer): Promise<void> {
    const path = `_soci/layers/${layer.digest}/tar`;
    const answer = await this.#ask(home, path, { range: 'bytes=512-1535' });
    this.#judgeDecompressed(home, path, answer, layer, layer.tar.subarray(512, 1536));
  }

  #judgeDecompressed(home: Home, path: string, answer: Answer, layer: PoolLayer, wanted: Buffer): void {
    const sent = home.registry.blob(home.name, layer.digest);
    if (this.#world.isAnsweredFor(home, layer) && answer.body.equals(wanted)) return;
    if (this.#world.has(home, layer) || sent === undefined)
      this.#judge(home, path, answer, this.#world.has(home, layer) ? wanted : undefined);
    // Wrong bytes may be served until the digest shows that they are wrong.
    else this.#judgeLeaks(home, path, answer.body);
  }

  async #askLayer(home: Home, layer: PoolLayer): Promise<void> {
    const answer = await this.#ask(home, `_soci/layers/${layer.digest}`);
    const { lies } = home.registry;
    if (this.#world.has(home, layer) ? answer.status !== 200 : answer.status === 200 && !lies.hasAll) {
      if (home.registry.blob(home.name, layer.digest) === undefined || this.#world.has(home, layer))
        this.findings.push(
          `${home.name}: state of ${layer.digest}: ${answer.status} ${answer.body.toString()}`,
        );
    }
    if (answer.status !== 200) return;
    const { state, reason, ztoc, diffId } = JSON.parse(answer.body.toString()) as {
      state: string;
      reason?: string;
      ztoc?: { digest: string };
      diffId: string | null;
    };
    const isTold = ztoc !== undefined || state === 'indexed' || state === 'readable';
    if (isTold && !this.#world.has(home, layer) && !this.#world.isAnsweredFor(home, layer))
      this.findings.push(`${home.name} is told of ${layer.digest}: ${answer.body.toString()}`);
    if (state === 'indexed' && diffId !== digestOf(layer.tar))
      this.findings.push(`${home.name}: diffID of ${layer.digest}: ${diffId}`);
    // Only its own upstream may cause the failure.
    if (state === 'failed' && (this.#world.has(home, layer) || reason !== 'BLOB_CORRUPT'))
      this.findings.push(`${home.name}: ${answer.body.toString()}`);
  }

  /** The layers of an image that belong in its index, and whether the repository has all of them. */
  #indexable(
    home: Home,
    { layers }: KnownImage,
  ): { readonly has: readonly string[]; readonly isSound: boolean } {
    const eligible = layers.filter(isEligible);
    const has = eligible.filter(({ layer }) => this.#world.has(home, layer)).map(({ layer }) => layer.digest);
    const isSound = eligible.every(
      ({ layer }) =>
        this.#world.has(home, layer) || home.registry.blob(home.name, layer.digest) === undefined,
    );
    return { has, isSound };
  }

  async #askReferrers(home: Home, image: KnownImage | undefined): Promise<void> {
    if (image === undefined) return;
    const own = home.registry.repository(home.name).manifests.has(image.digest);
    const before = this.#indexable(home, image);
    const answer = await this.#ask(home, `referrers/${image.digest}?artifactType=${SOCI}`, {
      accept: OCI,
      'user-agent': CONTAINERD,
    });
    // A push may have happened meanwhile, or the index takes longer than the wait.
    if (answer.status !== 200 || this.#indexable(home, image).has.length !== before.has.length) {
      if (answer.status !== 503 && own && before.isSound)
        this.findings.push(`${home.name}: referrers: ${answer.status} ${answer.body.toString()}`);
      return;
    }
    const { manifests } = JSON.parse(answer.body.toString()) as { manifests: { digest: string }[] };
    const [listed] = manifests;
    if (listed === undefined) {
      if (own && before.has.length > 0 && before.isSound)
        this.findings.push(`${home.name}: no index of ${image.digest}, although it has ${before.has.join()}`);
      return;
    }
    const isSaid = home.registry.lies.hasAll && this.#isWithin(home, image.digest);
    if (!own && !isSaid)
      this.findings.push(`${home.name} is told of an index of ${image.digest}, which it has not got`);
    await this.#readIndex(home, image, listed.digest, before.has);
  }

  async #readIndex(home: Home, image: KnownImage, index: string, has: readonly string[]): Promise<void> {
    const answer = await this.#ask(home, `manifests/${index}`);
    if (answer.status !== 200 || digestOf(answer.body) !== index) {
      this.findings.push(`${home.name}: index ${index}: ${answer.status}`);
      return;
    }
    const { layers } = JSON.parse(answer.body.toString()) as {
      layers: { digest: string; annotations: Record<string, string> }[];
    };
    const named = layers.map(({ annotations }) => annotations['com.amazon.soci.image-layer-digest'] ?? '');
    const said = this.#world.layers.filter((layer) => this.#world.isAnsweredFor(home, layer));
    const isSaid = (digest: string): boolean => said.some((layer) => layer.digest === digest);
    const sure = named.filter((digest) => has.includes(digest) || !isSaid(digest));
    if (sure.toSorted().join() !== has.toSorted().join())
      this.findings.push(`${home.name}: index of ${image.digest} has ${named.join()}, not ${has.join()}`);
    const key = `${image.digest} ${named.toSorted().join()}`;
    const earlier = this.#indexes.get(key) ?? index;
    if (earlier !== index)
      this.findings.push(`${home.name}: index ${index} of ${key}, and before ${earlier}`);
    this.#indexes.set(key, index);
    this.#derived.set(index, {
      path: `manifests/${index}`,
      digest: index,
      manifest: image.digest,
      layers: named,
    });
    for (const [place, { digest }] of layers.entries())
      this.#derived.set(digest, {
        path: `blobs/${digest}`,
        digest,
        manifest: undefined,
        layers: [named[place] ?? ''],
      });
  }

  async #askDerived(home: Home, derived: Derived | undefined): Promise<void> {
    if (derived === undefined) return;
    const world = this.#world;
    const { manifests } = home.registry.repository(home.name);
    const has = (): boolean =>
      (derived.manifest === undefined || manifests.has(derived.manifest)) &&
      derived.layers.every((digest) =>
        world.layers.some((one) => one.digest === digest && world.has(home, one)),
      );
    const before = has();
    const answer = await this.#ask(home, derived.path);
    const isGiven = answer.status === 200;
    const mayHave =
      (derived.manifest === undefined ||
        manifests.has(derived.manifest) ||
        (home.registry.lies.hasAll && this.#isWithin(home, derived.manifest))) &&
      derived.layers.every((digest) =>
        world.layers.some(
          (one) => one.digest === digest && (world.has(home, one) || world.isAnsweredFor(home, one)),
        ),
      );
    if (isGiven && !mayHave) this.findings.push(`${home.name} is given ${derived.path} without its layers`);
    if (isGiven && digestOf(answer.body) !== derived.digest) this.findings.push(`${derived.path} is another`);
    if (!isGiven && before) this.findings.push(`${home.name}: ${derived.path}: ${answer.status}`);
  }

  async #askImageFile(home: Home, image: KnownImage | undefined): Promise<void> {
    if (image === undefined) return;
    const { layer } = this.#world.pick(image.layers);
    const path = `_soci/images/${image.digest}/files/${layer.path}`;
    const isWhole = image.layers.every((named) => this.#world.has(home, named.layer));
    const answer = await this.#ask(home, path);
    if (isWhole) this.#judge(home, path, answer, layer.content);
    else if (
      answer.status === 200 &&
      !this.#world.has(home, layer) &&
      !this.#world.isAnsweredFor(home, layer)
    )
      this.findings.push(`${home.name} ${path} without the layer`);
    this.#judgeLeaks(home, path, answer.body);
  }
}

/** In the form of a SOCI index, from the manifest. */
function isEligible({ mediaType }: NamedLayer): boolean {
  return mediaType === MEDIA_TYPES.ociLayerGzip || mediaType === MEDIA_TYPES.ociLayer;
}
