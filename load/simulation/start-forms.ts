/** What one node requests to start one image. Sizes are bytes. */
export interface StartForm {
  readonly name: string;
  /** Small responses: tag, manifests, config, probes, zTOCs. */
  readonly documents: number;
  /** Blobs that are fetched whole: layers, a boot layer. */
  readonly streamBytes: number;
  /** Ranges that the container waits for, one after the other. */
  readonly reads: number;
  readonly readBytes: number;
  /** The replica decompresses what it sends. */
  readonly isInflated: boolean;
}

/** An image and the ways to start it. */
export interface StartedImage {
  readonly name: string;
  readonly bytes: number;
  readonly forms: readonly StartForm[];
}

const MB = 1e6;

/**
 * As counted with real nodes that start an image of 227 MB (docs/lazy-nodes.md), in proportion. A boot layer
 * of 12.6 MB leaves 9.5 MB to be read.
 */
const SCALE = 250 / 227;
const SMALL: StartedImage = {
  name: '250 MB',
  bytes: 250 * MB,
  forms: [
    { name: 'full', documents: 3, streamBytes: 250 * MB, reads: 0, readBytes: 0, isInflated: false },
    { name: 'lean', documents: 8, ...readsOf(39, 50 * MB * SCALE), isInflated: false },
    { name: 'inflated', documents: 10, ...readsOf(162, 43 * MB * SCALE), isInflated: true },
    {
      name: 'boot layer',
      documents: 10,
      ...readsOf(25, 9.5 * MB * SCALE),
      streamBytes: 12.6 * MB * SCALE,
      isInflated: true,
    },
  ],
};

/**
 * Assumed: a start reads 6.4 % of the image's bytes (Harter et al., Slacker, FAST '16), in spans of 1 MiB;
 * `lean` reads more in the proportion that was counted with the small image; the boot layer has
 * `index.bootLayerBytes` (32 MiB), which is three times as much decompressed.
 */
const READ_BYTES = 0.064 * 10_000 * MB;
const BOOT_LAYER_BYTES = 33.6 * MB;
const SPAN_BYTES = 1.05 * MB;
const LEAN_BYTES = READ_BYTES * (50 / 43);
const LARGE: StartedImage = {
  name: '10 GB',
  bytes: 10_000 * MB,
  forms: [
    { name: 'full', documents: 3, streamBytes: 10_000 * MB, reads: 0, readBytes: 0, isInflated: false },
    {
      name: 'lean',
      documents: 20,
      ...readsOf(Math.round(LEAN_BYTES / (1.28 * MB)), LEAN_BYTES),
      isInflated: false,
    },
    {
      name: 'inflated',
      documents: 20,
      ...readsOf(Math.round(READ_BYTES / SPAN_BYTES), READ_BYTES),
      isInflated: true,
    },
    {
      name: 'boot layer',
      documents: 20,
      ...readsOf(
        Math.round((READ_BYTES - 3 * BOOT_LAYER_BYTES) / SPAN_BYTES),
        READ_BYTES - 3 * BOOT_LAYER_BYTES,
      ),
      streamBytes: BOOT_LAYER_BYTES,
      isInflated: true,
    },
  ],
};

export const IMAGES: readonly StartedImage[] = [SMALL, LARGE];

/** Requests of a start. A stream is one request for each layer; three of them here. */
export function requestsOf(form: StartForm): number {
  return form.documents + (form.streamBytes > 0 ? STREAMS : 0) + form.reads;
}

export const STREAMS = 3;

/** Body bytes of a start. */
export function bytesOf(form: StartForm): number {
  return form.streamBytes + form.reads * form.readBytes;
}

function readsOf(reads: number, bytes: number): Pick<StartForm, 'reads' | 'readBytes' | 'streamBytes'> {
  return { streamBytes: 0, reads, readBytes: bytes / reads };
}
