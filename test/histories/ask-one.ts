import { crc32 } from 'node:zlib';

import { HEADERS, nextAddress, urlOf } from './clients.ts';
import {
  blobsOf,
  documentsOf,
  type KnownBytes,
  type KnownLayer,
  type KnownRepository,
  mergedFiles,
  sha256,
  TAGS,
} from './content.ts';
import type { GetAction } from './history.ts';
import { type Expected, type Question, Refused, Wrong } from './judge.ts';
import type { Answer } from './patrons.ts';
import type { Replica } from './replica.ts';
import type { World } from './world.ts';

const V2 = 'com.amazon.soci';

/**
 * Sends one request of one client and compares the response with the known content.
 * @param headers besides the client's own
 * @throws Wrong, Refused
 */
export async function askOne(
  world: World,
  action: GetAction,
  headers: Readonly<Record<string, string>> = {},
): Promise<void> {
  const { wanted } = action;
  const repository = world.repository(wanted.repository);
  const asking = new Asking(world, world.replica(action.replica), action, { repository, headers });
  switch (wanted.of) {
    case 'tag':
      return asking.tag(TAGS[wanted.tag % TAGS.length] ?? 'latest');
    case 'manifest': {
      const document = pick([...documentsOf(repository).values()], wanted.place);
      return asking.known(`manifests/${document.digest}`, document.bytes, { digest: document.digest });
    }
    case 'blob': {
      const [digest, bytes] = pick([...blobsOf(repository)], wanted.place);
      return asking.known(`blobs/${digest}`, bytes, { digest });
    }
    case 'foreign':
      return asking.foreign(pick(world.content.layers, wanted.layer));
    case 'tar': {
      const layer = asking.layer(wanted.place);
      return asking.known(`_soci/layers/${layer.digest}/tar`, layer.tar, { partOf: [layer] });
    }
    case 'layer':
      return asking.state(asking.layer(wanted.place));
    case 'files':
      return asking.files(asking.layer(wanted.place));
    case 'spans':
      await asking.spans(asking.layer(wanted.place));
      return;
    case 'span':
      return asking.span(asking.layer(wanted.place), wanted.share);
    case 'file': {
      const layer = asking.layer(wanted.place);
      const [name, bytes] = pick([...layer.files], wanted.share * layer.files.size);
      return asking.known(`_soci/layers/${layer.digest}/files/${name}`, bytes, { partOf: [layer] });
    }
    case 'imageFile': {
      const images = repository.tops.flatMap(({ images }) => images);
      const image = pick(images, wanted.place);
      const files = mergedFiles(image);
      const [name, bytes] = pick([...files], wanted.share * files.size);
      const path = `_soci/images/${image.manifest.digest}/files/${name}`;
      return asking.known(path, bytes, { partOf: image.layers });
    }
    case 'image':
      await asking.json(`_soci/images/${pick(repository.tops, wanted.place).document.digest}`);
      return;
    case 'referrers':
      return asking.referrers(pick([...documentsOf(repository).values()], wanted.place));
    case 'tags':
      return asking.tags();
  }
}

function pick<T>(all: readonly T[], place: number): T {
  return all[Math.floor(place) % all.length] as T;
}

class Asking {
  readonly #world: World;
  readonly #replica: Replica;
  readonly #action: GetAction;
  readonly #repository: KnownRepository;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #address = nextAddress();

  constructor(
    world: World,
    replica: Replica,
    action: GetAction,
    { repository, headers }: { repository: KnownRepository; headers: Readonly<Record<string, string>> },
  ) {
    this.#world = world;
    this.#replica = replica;
    this.#action = action;
    this.#repository = repository;
    this.#headers = headers;
  }

  layer(place: number): KnownLayer {
    return pick(
      this.#repository.tops.flatMap(({ images }) => images.flatMap(({ layers }) => layers)),
      place,
    );
  }

  async #ask(path: string, expected: Expected, options: Partial<Question> = {}): Promise<Answer> {
    const { client } = this.#action;
    const url = urlOf(this.#replica.url, client, this.#repository.name, path);
    const headers = { ...HEADERS[client], ...options.headers, ...this.#headers };
    return this.#world.judge.ask(
      this.#replica.patrons,
      { ...options, url, headers, address: this.#address },
      expected,
    );
  }

  /** Known content, or a range of it. */
  async known(path: string, bytes: Buffer, expected: Expected): Promise<void> {
    const { head = false, range: shares, leaveAfterBytes } = this.#action;
    const range = shares && rangeOf(shares, bytes.length);
    const headers = range === undefined || head ? {} : { range: `bytes=${range.start}-${range.end - 1}` };
    await this.#ask(
      path,
      { ...expected, bytes, range: head ? undefined : range },
      { headers, leaveAfterBytes, method: head ? 'HEAD' : 'GET' },
    );
  }

  /** A recent target of the tag, or a document that the proxy derived from one. */
  async tag(tag: string): Promise<void> {
    const { head = false } = this.#action;
    const { headers, body } = await this.#ask(`manifests/${tag}`, {}, { method: head ? 'HEAD' : 'GET' });
    // All targets that the tag may have had during the request.
    const tops = this.#world.topsOf(this.#repository, tag).map((place) => this.#repository.tops[place]);
    const digest = headers['docker-content-digest'];
    const known = tops.find((top) => top?.document.digest === digest);
    if (known !== undefined && (head || body.equals(known.document.bytes))) return;
    if (documentsOf(this.#repository).has(String(digest)))
      throw new Refused(
        `${tag} of ${this.#repository.name} is answered with ${String(digest)}, which it has left`,
        false,
      );
    if (head) return;
    if (sha256(body) !== digest)
      throw new Wrong(`${tag} of ${this.#repository.name}: bytes of ${sha256(body)}`);
    if (!body.includes(V2)) throw new Wrong(`${tag} of ${this.#repository.name}: ${body.toString()}`);
  }

  /** A repository gets a layer only if it has it. */
  async foreign(layer: KnownLayer): Promise<void> {
    if (blobsOf(this.#repository).has(layer.digest))
      return this.known(`blobs/${layer.digest}`, layer.packed, { digest: layer.digest });
    const { client } = this.#action;
    const url = urlOf(this.#replica.url, client, this.#repository.name, `blobs/${layer.digest}`);
    const { status } = await this.#replica.patrons.ask(url, {}).catch(() => ({ status: 0 }));
    if (status === 200) throw new Wrong(`${this.#repository.name} has no ${layer.digest}, and was given it`);
  }

  async state({ digest }: KnownLayer): Promise<void> {
    const layer = (await this.json(`_soci/layers/${digest}`)) as { digest: string };
    if (layer.digest !== digest) throw new Wrong(`state of ${digest}: ${JSON.stringify(layer)}`);
  }

  async files({ digest, files }: KnownLayer): Promise<void> {
    const list = (await this.json(`_soci/layers/${digest}/files`)) as {
      files: { name: string; size: number }[];
    };
    const listed = new Map(list.files.map(({ name, size }) => [name, size]));
    const isRight = [...files].every(([name, { length }]) => listed.get(name) === length);
    if (!isRight || listed.size !== files.size)
      throw new Wrong(`files of ${digest}: ${JSON.stringify(list)}`);
  }

  /** All spans of a layer, which must describe its bytes correctly. */
  async spans({ digest, packed, tar }: KnownLayer): Promise<readonly Span[]> {
    const { spans } = (await this.json(`_soci/layers/${digest}/spans`)) as { spans: Span[] };
    let reached = 0;
    for (const { id, compressed, uncompressed, ...span } of spans) {
      const bytes = tar.subarray(uncompressed.start, uncompressed.end);
      if (uncompressed.start !== reached)
        throw new Wrong(`span ${id} of ${digest} does not begin at ${reached}`);
      if (span.crc32 !== undefined && span.crc32 !== crc32(bytes))
        throw new Wrong(`span ${id} of ${digest} has the CRC ${span.crc32}`);
      const own = sha256(packed.subarray(compressed.start, compressed.end));
      if (span.digest !== undefined && span.digest !== own)
        throw new Wrong(`span ${id} of ${digest} has the digest ${span.digest}`);
      reached = uncompressed.end;
    }
    if (reached !== tar.length) throw new Wrong(`spans of ${digest} end at ${reached} of ${tar.length}`);
    return spans;
  }

  async span(layer: KnownLayer, share: number): Promise<void> {
    const spans = await this.spans(layer);
    const { id, uncompressed } = pick(spans, share * spans.length);
    const bytes = layer.tar.subarray(uncompressed.start, uncompressed.end);
    await this.known(`_soci/layers/${layer.digest}/spans/${id}`, bytes, { partOf: [layer] });
  }

  async json(path: string): Promise<unknown> {
    const { body } = await this.#ask(path, {});
    try {
      return JSON.parse(body.toString());
    } catch {
      throw new Wrong(`${path}: no JSON: ${body.toString()}`);
    }
  }

  /** Every listed manifest has the image as its subject and can be fetched. */
  async referrers({ digest }: KnownBytes): Promise<void> {
    const list = (await this.json(`referrers/${digest}`)) as {
      manifests: { digest: string; size: number }[];
    };
    for (const listed of list.manifests) {
      const { body } = await this.#ask(`manifests/${listed.digest}`, { digest: listed.digest });
      const { subject } = JSON.parse(body.toString()) as { subject?: { digest: string } };
      if (subject?.digest !== digest || body.length !== listed.size)
        throw new Wrong(`referrer ${listed.digest} of ${digest}: ${body.toString()}`);
    }
  }

  async tags(): Promise<void> {
    const { tags } = (await this.json('tags/list')) as { tags: string[] };
    if (String(tags.toSorted()) !== String(TAGS.toSorted()))
      throw new Wrong(`tags of ${this.#repository.name}: ${String(tags)}`);
  }
}

interface Span {
  readonly id: number;
  readonly compressed: { readonly start: number; readonly end: number };
  readonly uncompressed: { readonly start: number; readonly end: number };
  readonly digest?: string;
  readonly crc32?: number;
}

/** Never empty, and always within the content. */
function rangeOf([from, to]: readonly [number, number], length: number): { start: number; end: number } {
  const start = Math.min(Math.floor(from * length), length - 1);
  return { start, end: Math.max(start + 1, Math.min(length, Math.ceil(to * length))) };
}
