import { type NoteRedis, sealedNotes, SharedNotes } from '../cache/shared-notes.ts';
import { type Digest, digestOf } from '../core/digest.ts';
import { findLayerFault, ProvenFault } from './proven-fault.ts';

const PREFIX = 'layer-fault:1:';
/** A version or a configuration that can index the layer gets its chance. */
const LIFETIME_MS = 3_600_000;

/** Faults of layers that replicas have proven, so that each faulty layer is read once for all of them. */
export class SharedFaults {
  readonly #notes: SharedNotes;
  readonly #settings: Digest;

  /**
   * @param redis used only if it is sealed: else anybody could keep a layer from being indexed
   * @param settings what a fault depends on, besides the layer
   */
  constructor(redis: NoteRedis | undefined, settings: object) {
    this.#notes = new SharedNotes(sealedNotes(redis), { prefix: PREFIX, lifetimeMs: LIFETIME_MS });
    this.#settings = digestOf(JSON.stringify(settings));
  }

  async find(layer: Digest): Promise<ProvenFault | undefined> {
    const note = await this.#notes.find(this.#keyOf(layer));
    if (note === undefined) return undefined;
    const { code, message } = note.fields;
    const known = findLayerFault(code);
    return known === undefined || typeof message !== 'string' ? undefined : new ProvenFault(known, message);
  }

  note(layer: Digest, { code, message }: ProvenFault): void {
    void this.#notes.note(this.#keyOf(layer), { code, message });
  }

  #keyOf(layer: Digest): string {
    return `${layer} ${this.#settings}`;
  }
}
