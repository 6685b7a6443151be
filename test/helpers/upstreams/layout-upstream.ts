import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { type Digest, isDigest } from '../../../src/core/digest.ts';
import { ScriptedRegistry, type ScriptedRegistryOptions } from '../../registry/scripted-registry.ts';
import { type OciLayout, openOciLayout, readDocument } from '../../../src/convert/oci-layout.ts';
import { GoldenImages } from '../../oracles/golden-images.ts';
import { gnuTar } from '../../oracles/gnu-tar.ts';

/** A registry that holds a golden image as `app:latest`. */
export class LayoutUpstream implements AsyncDisposable {
  readonly registry: ScriptedRegistry;
  /** Of the input layout. */
  readonly folder: string;
  /** What the tag points to. */
  readonly digest: Digest;
  readonly #layout: OciLayout;

  private constructor(registry: ScriptedRegistry, folder: string, digest: Digest, layout: OciLayout) {
    this.registry = registry;
    this.folder = folder;
    this.digest = digest;
    this.#layout = layout;
  }

  /** @param part `layout` is the image as it was, `expected` what `soci convert` made of it */
  static async start(
    name: string,
    part: 'layout' | 'expected' = 'layout',
    options: ScriptedRegistryOptions = {},
  ): Promise<LayoutUpstream> {
    const golden = GoldenImages.small();
    const folder = golden.layout(golden.image(name));
    const layout = new Map(await openOciLayout(folder));
    const top = join(folder, '..', part);
    for (const [file, found] of await openOciLayout(top)) layout.set(file, found);
    const registry = await ScriptedRegistry.start(options);
    const manifests = JSON.parse(await readFile(join(top, 'index.json'), 'utf8')) as {
      manifests: { digest: Digest; mediaType: string }[];
    };
    const [entry] = manifests.manifests;
    if (entry === undefined) throw new Error(`${name} has no manifest`);
    const upstream = new LayoutUpstream(registry, folder, entry.digest, layout);
    await upstream.#fill(entry.digest, entry.mediaType);
    return upstream;
  }

  get url(): string {
    return this.registry.url;
  }

  /** Bytes of a blob or manifest. */
  blob(digest: Digest): Promise<Buffer> {
    return readDocument(this.#layout, digest);
  }

  /** A file of the image as GNU tar has it, from the topmost layer with such a name. */
  async file(path: string): Promise<Buffer> {
    for (const [name, part] of [...this.#layout].toReversed()) {
      if (!name.startsWith('blobs/')) continue;
      const found = await gnuTar.read(part.path, path).catch(() => undefined);
      if (found !== undefined) return found;
    }
    throw new Error(`no layer has ${path}`);
  }

  /** Every blob, and those that are manifests as such. */
  async #fill(top: Digest, topType: string): Promise<void> {
    const types = new Map<string, string>([[top, topType]]);
    for (const name of this.#layout.keys()) {
      const digest = name.replace('blobs/', '').replace('/', ':');
      if (!isDigest(digest)) continue;
      const bytes = await this.blob(digest);
      await this.registry.addBlob('app', Uint8Array.from(bytes), digest);
      const json = parseObject(bytes);
      for (const child of json?.manifests ?? []) types.set(child.digest, child.mediaType);
    }
    for (const [digest, mediaType] of types) {
      const bytes = await this.blob(digest as Digest).catch(() => undefined);
      if (bytes !== undefined) this.registry.addManifest('app', digest, bytes, mediaType);
    }
    this.registry.addManifest('app', 'latest', await this.blob(top), topType);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.registry[Symbol.asyncDispose]();
  }
}

function parseObject(bytes: Buffer): { manifests?: { digest: string; mediaType: string }[] } | undefined {
  if (bytes[0] !== 0x7b) return undefined;
  return JSON.parse(bytes.toString()) as { manifests?: { digest: string; mediaType: string }[] };
}
