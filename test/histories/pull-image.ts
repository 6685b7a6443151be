import { HEADERS, nextAddress, urlOf } from './clients.ts';
import { type KnownImage, type KnownRepository, type KnownTop, OCI_MANIFEST, sha256 } from './content.ts';
import type { ClientKind } from './history.ts';
import { type Expected, Refused, Wrong } from './judge.ts';
import type { Answer } from './patrons.ts';
import type { Replica } from './replica.ts';
import type { World } from './world.ts';

const SOCI_INDEX = 'com.amazon.soci.index-digest';
const LAYER_DIGEST = 'com.amazon.soci.image-layer-digest';
const SOCI_V2 = 'application/vnd.amazon.soci.index.v2+json';

interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly platform?: { readonly architecture: string };
  readonly artifactType?: string;
  readonly annotations?: Readonly<Record<string, string>>;
}

interface Document {
  readonly config?: Descriptor;
  readonly layers?: readonly Descriptor[];
  readonly manifests?: readonly Descriptor[];
  readonly annotations?: Readonly<Record<string, string>>;
  readonly artifactType?: string;
}

/** An image as pulled by a client. */
export interface PulledImage {
  readonly image: KnownImage;
  /** Layers in its SOCI v2 index; `undefined` if it has none. */
  readonly indexed: readonly string[] | undefined;
}

export interface PulledTop {
  readonly digest: string;
  readonly top: KnownTop;
  readonly images: readonly PulledImage[];
}

export interface PullOptions {
  readonly client: ClientKind;
  readonly repository: KnownRepository;
  readonly tag: string;
  /** Replicas that get the requests in turn. */
  readonly replicas: readonly Replica[];
  /** Skips layers, which take long. */
  readonly documentsOnly?: boolean;
}

/**
 * Follows a tag to everything that its response leads to, for every platform, and identifies the known image.
 * @throws Wrong, Refused
 */
export async function pullImage(world: World, options: PullOptions): Promise<PulledTop> {
  return new Pull(world, options).run();
}

class Pull {
  readonly #world: World;
  readonly #options: PullOptions;
  readonly #address = nextAddress();
  #asked = 0;

  constructor(world: World, options: PullOptions) {
    this.#world = world;
    this.#options = options;
  }

  async run(): Promise<PulledTop> {
    const { tag, repository } = this.#options;
    const { headers, body } = await this.#ask(`manifests/${tag}`, {});
    const digest = String(headers['docker-content-digest']);
    if (sha256(body) !== digest)
      throw new Wrong(`${repository.name}:${tag} has bytes of ${sha256(body)}, not ${digest}`);
    const document = JSON.parse(body.toString()) as Document;
    const images: PulledImage[] = [];
    for (const manifest of await this.#manifestsOf(document)) images.push(await this.#image(manifest));
    const top = repository.tops.find(
      (candidate) =>
        candidate.images.length === images.length &&
        candidate.images.every(({ config }) =>
          images.some(({ image }) => image.config.digest === config.digest),
        ),
    );
    if (top === undefined) throw new Wrong(`${repository.name}:${tag} leads to no image: ${body.toString()}`);
    const places = this.#world.topsOf(repository, tag);
    if (!places.includes(repository.tops.indexOf(top)))
      throw new Refused(
        `${repository.name}:${tag} leads to ${top.document.digest}, which it has left`,
        false,
      );
    return { digest, top, images };
  }

  async #manifestsOf(document: Document): Promise<readonly Document[]> {
    if (document.manifests === undefined) return [document];
    const found: Document[] = [];
    for (const { digest, size, mediaType, artifactType } of document.manifests) {
      const { body } = await this.#ask(`manifests/${digest}`, { digest });
      if (body.length !== size) throw new Wrong(`${digest} has ${body.length} bytes, not ${size}`);
      const isImage = mediaType === OCI_MANIFEST && artifactType !== SOCI_V2;
      if (isImage) found.push(JSON.parse(body.toString()) as Document);
    }
    return found;
  }

  async #image({ config, layers = [], annotations = {} }: Document): Promise<PulledImage> {
    const { repository, documentsOnly = false } = this.#options;
    const image = repository.tops
      .flatMap(({ images }) => images)
      .find(({ config: known }) => known.digest === config?.digest);
    if (image === undefined)
      throw new Wrong(`${repository.name} has no image with the config ${config?.digest}`);
    // In the inflated form, tars take the places of layers.
    const blobs = image.layers.map(({ digest, packed, diffId, tar }, place) =>
      layers[place]?.digest === diffId ? { digest: diffId, bytes: tar } : { digest, bytes: packed },
    );
    const named = layers.map(({ digest, size }) => [digest, size]);
    if (String(named) !== String(blobs.map(({ digest, bytes }) => [digest, bytes.length])))
      throw new Wrong(`layers of ${image.manifest.digest}: ${JSON.stringify(layers)}`);
    // The config gate sends the config after the SOCI index that the client has requested.
    const soci = annotations[SOCI_INDEX];
    const indexing = soci === undefined ? undefined : this.#sociLayers(soci);
    const { bytes, digest } = image.config;
    await allOf([
      ...(indexing === undefined ? [] : [indexing]),
      this.#ask(`blobs/${digest}`, { bytes, digest }),
      ...(documentsOnly ? [] : blobs).map((blob) => this.#ask(`blobs/${blob.digest}`, blob)),
    ]);
    return { image, indexed: await indexing };
  }

  async #sociLayers(digest: string): Promise<readonly string[]> {
    const { body } = await this.#ask(`manifests/${digest}`, { digest });
    const { layers = [] } = JSON.parse(body.toString()) as Document;
    await allOf(
      layers.map(async (ztoc) => {
        const answer = await this.#ask(`blobs/${ztoc.digest}`, { digest: ztoc.digest });
        if (answer.body.length !== ztoc.size)
          throw new Wrong(`zTOC ${ztoc.digest} has ${answer.body.length} bytes, not ${ztoc.size}`);
      }),
    );
    return layers.map(({ annotations = {} }) => annotations[LAYER_DIGEST] ?? '');
  }

  async #ask(path: string, expected: Expected): Promise<Answer> {
    const { client, repository, replicas } = this.#options;
    const replica = replicas[this.#asked++ % replicas.length] as Replica;
    const url = urlOf(replica.url, client, repository.name, path);
    const headers = { ...HEADERS[client], 'accept-encoding': 'identity' };
    return this.#world.judge.ask(replica.patrons, { url, headers, address: this.#address }, expected);
  }
}

/** As `Promise.all`, but waits for all promises before it throws. */
async function allOf(work: readonly Promise<unknown>[]): Promise<void> {
  for (const result of await Promise.allSettled(work)) if (result.status === 'rejected') throw result.reason;
}
