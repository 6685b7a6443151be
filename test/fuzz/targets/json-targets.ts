import { ok } from 'node:assert/strict';
import { setImmediate as nextTurn } from 'node:timers/promises';

import type { Descriptor } from '../../../src/core/descriptor.ts';
import { type Digest, digestOf, isDigest } from '../../../src/core/digest.ts';
import { isSpandrelError, type SpandrelError } from '../../../src/core/errors.ts';
import { MANIFEST_MEDIA_TYPES } from '../../../src/core/media-types.ts';
import { formatPlatform } from '../../../src/core/platform.ts';
import { parseImageConfig } from '../../../src/images/documents/image-config.ts';
import { parseManifest, soundDescriptors } from '../../../src/images/documents/parse-manifest.ts';
import { isImageManifest, orderByPlatform } from '../../../src/images/documents/order-by-platform.ts';
import {
  decodeConfigPlatform,
  decodeOciIndex,
  decodeOciManifest,
  encodeOciIndex,
  encodeOciManifest,
} from '../../../src/soci/oci-manifest.ts';
import { skipReason } from '../../../src/soci/skip-reason.ts';
import { parseSociIndex } from '../../../src/soci/parse-soci-index.ts';
import { encodeSociIndex } from '../../../src/soci/soci-index.ts';
import { parseDescriptorList } from '../../../src/upstream/manifests/parse-descriptor-list.ts';
import { identifyManifest } from '../../../src/upstream/manifests/identify-manifest.ts';
import type { Corpus } from '../corpus.ts';
import type { Dice } from '../dice.ts';
import { mutateJson } from '../mutators/mutate-json.ts';
import type { FuzzTarget } from '../target.ts';

const PLATFORMS = [
  undefined,
  { os: 'linux', architecture: 'arm', variant: 'v7' },
  { os: 'linux', architecture: 'arm64' },
];

/** Limits as documented. */
const MAX_TURN_MS = 100;

function makeJson(dice: Dice, corpus: Corpus): Buffer {
  return mutateJson(dice, dice.pick(corpus.json));
}

export const manifestTarget: FuzzTarget = {
  name: 'manifest',
  claim:
    'a manifest with values of wrong types is IMAGE_UNSUPPORTED, or all that the proxy makes of it can be made',
  codes: ['IMAGE_UNSUPPORTED'],
  testCases: 2000,
  maxTurnMs: MAX_TURN_MS,
  makeInput: makeJson,
  read(input, { dice }) {
    const manifest = { bytes: input, mediaType: dice.pick(MANIFEST_MEDIA_TYPES), digest: digestOf('') };
    const parsed = parseManifest(manifest);
    if (parsed.kind === 'image') {
      readLayers(
        soundDescriptors([...(parsed.config === undefined ? [] : [parsed.config]), ...parsed.layers]),
      );
      return;
    }
    const manifests = soundDescriptors(parsed.manifests);
    readDescriptors(manifests);
    const images = manifests.filter(isImageManifest);
    for (const { platform } of images) if (platform !== undefined) formatPlatform(platform);
    ok(orderByPlatform(images, dice.pick(PLATFORMS)).every((image) => images.includes(image)));
  },
};

function readDescriptors(descriptors: readonly Descriptor[]): void {
  for (const { digest, size, mediaType, annotations, platform, artifactType } of descriptors) {
    ok(isDigest(digest) && Number.isSafeInteger(size) && size >= 0 && typeof mediaType === 'string');
    ok(artifactType === undefined || typeof artifactType === 'string');
    ok(Object.values(annotations ?? {}).every((value) => typeof value === 'string'));
    ok(
      platform === undefined ||
        (typeof platform.os === 'string' && typeof platform.architecture === 'string'),
    );
    ok(platform?.variant === undefined || typeof platform.variant === 'string');
  }
}

function readLayers(layers: readonly Descriptor[]): void {
  readDescriptors(layers);
  for (const layer of layers) skipReason(layer, 1000);
  const index = encodeSociIndex({
    layers: layers.map((layer) => ({
      layer,
      spanBytes: 4096,
      ztoc: { digest: layer.digest, sizeBytes: layer.size },
    })),
  });
  const { layers: printed } = JSON.parse(index.bytes.toString()) as { layers: unknown[] };
  ok(printed.length === layers.length);
}

export const ociDocumentTarget: FuzzTarget = {
  name: 'oci-document',
  claim: 'a document to convert is IMAGE_UNSUPPORTED, or the same when it is printed and read again',
  codes: ['IMAGE_UNSUPPORTED'],
  testCases: 2000,
  maxTurnMs: MAX_TURN_MS,
  makeInput: makeJson,
  read(input, { dice }) {
    const kind = dice.below(3);
    if (kind === 2) {
      decodeConfigPlatform(input);
      return;
    }
    const printAgain = (bytes: Buffer): Buffer =>
      kind === 0 ? encodeOciManifest(decodeOciManifest(bytes)) : encodeOciIndex(decodeOciIndex(bytes));
    const printed = printAgain(input);
    ok(printAgain(printed).equals(printed));
  },
};

export const sociIndexTarget: FuzzTarget = {
  name: 'soci-index',
  claim: 'a damaged SOCI index is INDEX_MALFORMED or lists zTOCs of layers',
  codes: ['INDEX_MALFORMED'],
  testCases: 2000,
  maxTurnMs: MAX_TURN_MS,
  makeInput: makeJson,
  read(input, { dice }) {
    const subject = /"subject":.*?(sha\d+:[0-9a-f]+)/.exec(input.toString('latin1'))?.[1];
    const { layers } = parseSociIndex(input, (dice.chance(0.9) ? subject : undefined) as Digest);
    for (const { layer, ztoc, sizeBytes } of layers)
      ok(isDigest(layer) && isDigest(ztoc) && Number.isSafeInteger(sizeBytes) && sizeBytes >= 0);
  },
};

export const referrersTarget: FuzzTarget = {
  name: 'referrers',
  claim: 'a list of descriptors with values of wrong types is UPSTREAM_PROTOCOL',
  codes: ['UPSTREAM_PROTOCOL'],
  testCases: 2000,
  maxTurnMs: MAX_TURN_MS,
  makeInput: makeJson,
  async read(input) {
    const list = await parseDescriptorList('fuzz', input);
    readDescriptors(list);
    list.filter(isImageManifest);
  },
};

export const imageConfigTarget: FuzzTarget = {
  name: 'image-config',
  claim: 'an image config with values of wrong types gives what is right in it',
  codes: [],
  testCases: 2000,
  maxTurnMs: MAX_TURN_MS,
  makeInput: makeJson,
  read(input) {
    const { diffIds, platform } = parseImageConfig(input);
    ok(diffIds === undefined || diffIds.every((id) => isDigest(id)));
    if (platform !== undefined) formatPlatform(platform);
  },
};

const MAX_DOCUMENT_BYTES = 4 * 2 ** 20;
/** Parts of large documents. */
const REPEATED = [
  '{}',
  '[]',
  '1',
  '""',
  '"x"',
  '{"a":{}}',
  '{"mediaType":"a","digest":"b","size":1}',
  'null',
  '[[[[]]]]',
];

/** A document up to the size limit: a seed with a repeated part. */
function makeLargeJson(dice: Dice, corpus: Corpus): Buffer {
  const seed = JSON.parse(dice.pick(corpus.json).toString()) as Record<string, unknown>;
  const bytes = dice.between(2 ** 16, MAX_DOCUMENT_BYTES);
  const unit = dice.chance(0.3) ? JSON.stringify(seed) : dice.pick(REPEATED);
  const list = `[${`${unit},`.repeat(Math.floor(bytes / (unit.length + 1)))}${unit}]`;
  const long = JSON.stringify(dice.pick(['x', '\\', '"', 'é', '\u0000']).repeat(Math.floor(bytes / 6)));
  const field = dice.pick(['layers', 'manifests', 'annotations', 'config', 'x']);
  const large = dice.chance(0.6) ? list : dice.chance(0.5) ? long : `{"a":${long}}`;
  const document = Buffer.from(`${JSON.stringify(seed).slice(0, -1)},"${field}":${large}}`);
  // Parsing repairs bytes that are not UTF-8.
  if (dice.chance(0.2)) document[dice.below(document.length)] = 0xff;
  return document;
}

export const largeDocumentTarget: FuzzTarget = {
  name: 'large-document',
  claim: 'a large document is refused or read, and no step keeps the event loop for long',
  codes: ['IMAGE_UNSUPPORTED', 'INDEX_MALFORMED', 'UPSTREAM_PROTOCOL'],
  testCases: 60,
  maxCpuMs: 10_000,
  maxTurnMs: MAX_TURN_MS,
  makeInput: makeLargeJson,
  async read(input, { dice }) {
    const mediaType = dice.pick(MANIFEST_MEDIA_TYPES);
    // Each is a separate turn in the proxy too.
    const steps: readonly (() => unknown)[] = [
      () => identifyManifest(input),
      () => parseManifest({ bytes: input, mediaType, digest: digestOf('') }),
      () => parseImageConfig(input),
      () => encodeOciManifest(decodeOciManifest(input)),
      () => encodeOciIndex(decodeOciIndex(input)),
      () => parseSociIndex(input, digestOf('')),
      () => parseDescriptorList('fuzz', input),
    ];
    let refusal: SpandrelError | undefined;
    for (const step of steps) {
      await nextTurn();
      try {
        await step();
      } catch (error) {
        if (!isSpandrelError(error, ...largeDocumentTarget.codes)) throw error;
        refusal = error;
      }
    }
    if (dice.chance(0.5) && refusal !== undefined) throw refusal;
  },
};
