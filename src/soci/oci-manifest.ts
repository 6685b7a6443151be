import type { Platform } from '../core/platform.ts';
import { SpandrelError } from '../core/errors.ts';
import { isIndexType, isManifestType } from '../core/media-types.ts';
import {
  decodeGoJson,
  goBytes,
  goInt64,
  goList,
  goPointer,
  goString,
  goStringMap,
  goStruct,
  type GoType,
} from './decode-go-json.ts';
import { encodeGoJson, type GoJson } from './go-json.ts';

// The structs of image-spec's `specs-go/v1` (descriptor.go, manifest.go, index.go). Decoding and encoding a
// document gives the bytes that Go's tools print: `soci` rewrites manifests so.

/** Absent strings are empty. */
export interface OciDescriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly urls?: readonly string[] | undefined;
  readonly annotations?: ReadonlyMap<string, string> | undefined;
  readonly data?: Buffer | undefined;
  readonly platform?: Platform | undefined;
  readonly artifactType: string;
}

export interface OciManifest {
  readonly schemaVersion: number;
  readonly mediaType: string;
  readonly artifactType: string;
  readonly config: OciDescriptor;
  readonly layers: readonly OciDescriptor[] | undefined;
  readonly subject: OciDescriptor | undefined;
  readonly annotations: ReadonlyMap<string, string> | undefined;
}

export interface OciIndex {
  readonly schemaVersion: number;
  readonly mediaType: string;
  readonly artifactType: string;
  readonly manifests: readonly OciDescriptor[] | undefined;
  readonly subject: OciDescriptor | undefined;
  readonly annotations: ReadonlyMap<string, string> | undefined;
}

interface GoPlatform {
  readonly architecture: string;
  readonly os: string;
  readonly 'os.version': string;
  readonly 'os.features': readonly string[] | undefined;
  readonly variant: string;
}

const PLATFORM = goStruct<GoPlatform>({
  architecture: goString,
  os: goString,
  'os.version': goString,
  'os.features': goList(goString),
  variant: goString,
});

const platform: GoType<Platform> = (value) => {
  const { variant, 'os.version': version, 'os.features': features, ...rest } = PLATFORM(value, undefined);
  return {
    ...rest,
    ...(version === '' ? {} : { 'os.version': version }),
    ...(features === undefined || features.length === 0 ? {} : { 'os.features': features }),
    ...(variant === '' ? {} : { variant }),
  };
};

const DESCRIPTOR = goStruct<OciDescriptor>({
  mediaType: goString,
  digest: goString,
  size: goInt64,
  urls: goList(goString),
  annotations: goStringMap,
  data: goBytes,
  platform: goPointer(platform),
  artifactType: goString,
});

const MANIFEST = goStruct<OciManifest>({
  schemaVersion: goInt64,
  mediaType: goString,
  artifactType: goString,
  config: DESCRIPTOR,
  layers: goList(DESCRIPTOR),
  subject: goPointer(DESCRIPTOR),
  annotations: goStringMap,
});

const INDEX = goStruct<OciIndex>({
  schemaVersion: goInt64,
  mediaType: goString,
  artifactType: goString,
  manifests: goList(DESCRIPTOR),
  subject: goPointer(DESCRIPTOR),
  annotations: goStringMap,
});

/**
 * Decodes an image manifest or a SOCI index. @throws SpandrelError IMAGE_UNSUPPORTED, also if the document is
 * an image index
 */
export function decodeOciManifest(bytes: Uint8Array): OciManifest {
  refuseOtherKind(bytes, 'manifest');
  return decodeGoJson(bytes, MANIFEST, 'a manifest');
}

/**
 * Decodes an image index or a Docker manifest list. @throws SpandrelError IMAGE_UNSUPPORTED, also if the
 * document is a manifest
 */
export function decodeOciIndex(bytes: Uint8Array): OciIndex {
  refuseOtherKind(bytes, 'index');
  return decodeGoJson(bytes, INDEX, 'an image index');
}

/** The platform in an image config. @throws SpandrelError IMAGE_UNSUPPORTED */
export function decodeConfigPlatform(bytes: Uint8Array): Platform {
  return decodeGoJson(bytes, platform, "an image's config");
}

const CONFIG = goStruct<{ readonly rootfs: { readonly diff_ids: readonly string[] | undefined } }>({
  rootfs: goStruct<{ readonly diff_ids: readonly string[] | undefined }>({ diff_ids: goList(goString) }),
});

/** The diffIDs in an image config, in the order of its layers. @throws SpandrelError IMAGE_UNSUPPORTED */
export function decodeConfigDiffIds(bytes: Uint8Array): readonly string[] {
  return decodeGoJson(bytes, CONFIG, "an image's config").rootfs.diff_ids ?? [];
}

export function encodeOciManifest(manifest: OciManifest): Buffer {
  return encode({
    schemaVersion: manifest.schemaVersion,
    mediaType: unlessEmpty(manifest.mediaType),
    artifactType: unlessEmpty(manifest.artifactType),
    config: descriptorJson(manifest.config),
    layers: manifest.layers?.map(descriptorJson) ?? null,
    subject: manifest.subject && descriptorJson(manifest.subject),
    annotations: unlessEmptyMap(manifest.annotations),
  });
}

export function encodeOciIndex(index: OciIndex): Buffer {
  return encode({
    schemaVersion: index.schemaVersion,
    mediaType: unlessEmpty(index.mediaType),
    artifactType: unlessEmpty(index.artifactType),
    manifests: index.manifests?.map(descriptorJson) ?? null,
    subject: index.subject && descriptorJson(index.subject),
    annotations: unlessEmptyMap(index.annotations),
  });
}

function encode(json: GoJson): Buffer {
  return Buffer.from(encodeGoJson(json));
}

function descriptorJson(descriptor: OciDescriptor): GoJson {
  const { mediaType, digest, size, urls, annotations, data, artifactType } = descriptor;
  return {
    mediaType,
    digest,
    size,
    urls: urls?.length ? urls : undefined,
    annotations: unlessEmptyMap(annotations),
    data: data?.length ? data.toString('base64') : undefined,
    platform: descriptor.platform && platformJson(descriptor.platform),
    artifactType: unlessEmpty(artifactType),
  };
}

function platformJson(value: Platform): GoJson {
  return {
    architecture: value.architecture,
    os: value.os,
    'os.version': value['os.version'],
    'os.features': value['os.features'],
    variant: value.variant,
  };
}

function unlessEmpty(text: string): string | undefined {
  return text === '' ? undefined : text;
}

function unlessEmptyMap(
  map: ReadonlyMap<string, string> | undefined,
): ReadonlyMap<string, string> | undefined {
  return map === undefined || map.size === 0 ? undefined : map;
}

interface Kind {
  readonly mediaType: string;
  readonly config: boolean;
  readonly layers: boolean;
  readonly manifests: boolean;
  readonly fsLayers: boolean;
}

/** Whether a `json.RawMessage` is present, even if `null`. */
const present: GoType<boolean> = (value, before) => before === true || value !== undefined;

const KIND = goStruct<Kind>({
  mediaType: goString,
  config: present,
  layers: present,
  manifests: present,
  fsLayers: present,
});

/**
 * Refuses documents that could also be read as the other kind, which is a known attack (containerd
 * `core/images/image.go`, validateMediaType).
 */
function refuseOtherKind(bytes: Uint8Array, expected: 'index' | 'manifest'): void {
  const found = decodeGoJson(bytes, KIND, `an image ${expected}`);
  const isOther =
    expected === 'manifest'
      ? found.manifests || isIndexType(found.mediaType)
      : found.config || found.layers || isManifestType(found.mediaType);
  if (isOther || found.fsLayers)
    throw new SpandrelError('IMAGE_UNSUPPORTED', `a document is not an image ${expected}`);
}
