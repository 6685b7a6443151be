import type { Stats } from 'node:fs';
import { stat, utimes } from 'node:fs/promises';

import { type Digest, digestAlgorithm } from '../../core/digest.ts';
import { isSpandrelError } from '../../core/errors.ts';
import { nodeErrorCode } from '../../core/node-error-code.ts';
import { waitFor } from '../../core/wait-for.ts';
import type { BlobDamage } from '../../telemetry/metrics.ts';
import { damageFrom, damageOf } from '../files/damage-of.ts';
import type { BlobLedger } from '../files/blob-ledger.ts';
import type { DigestWorker } from './digest-worker.ts';
import { Growth } from '../files/growth.ts';
import { OpenBlob } from '../reads/open-blob.ts';
import type { OpenFile, OpenFiles } from '../files/open-files.ts';
import type { StoredBlob } from '../files/store-budget.ts';
import { isPassingFault, storeFault } from '../files/store-fault.ts';
import type { StoreHealth } from '../files/store-health.ts';
import type { StoreLayout } from '../files/store-layout.ts';
import type { StoreRoom } from '../files/store-room.ts';

export interface CompleteBlobsDeps {
  readonly layout: StoreLayout;
  readonly room: StoreRoom;
  readonly files: OpenFiles;
  readonly digests: DigestWorker;
  readonly ledger: BlobLedger;
  readonly health: StoreHealth;
  /** As {@link steadyNow}. */
  readonly now: () => number;
}

/** Whatever speaks against a blob that has been found right lies elsewhere, for so long. */
const CLEARED_MS = 60_000;

/**
 * The blobs of the store that are whole. One whose file is not what was verified is condemned: it is removed, so that the next who
 * asks for it has it fetched anew.
 */
export class CompleteBlobs {
  readonly #deps: CompleteBlobsDeps;
  /** Their digests have been found right since the start. */
  readonly #proven = new WeakSet<StoredBlob>();
  /** Their files have been found to hold other bytes. */
  readonly #wrong = new WeakSet<StoredBlob>();
  /** When they were last found right although something spoke against them, on the clock of `performance`. */
  readonly #clearedAtMs = new WeakMap<StoredBlob, number>();
  readonly #verifications = new Map<Digest, Promise<boolean>>();
  /** Verifications that whoever wants to open the blob waits for. */
  readonly #suspicions = new Map<Digest, Promise<boolean>>();

  constructor(deps: CompleteBlobsDeps) {
    this.#deps = deps;
  }

  /** Blobs that are being verified because somebody waits for it. */
  get verifying(): number {
    return this.#verifications.size;
  }

  /**
   * Open a blob, if the store has it and it is as long as it was. One that nothing is known of is verified first.
   * @param options.byName the file is going to be opened by its name too: look whether that still leads to it
   * @param options.signal ends the waiting for a verification
   * @throws SpandrelError STORE_FAILED for a reason that lies outside of the file; the reason of the signal
   */
  async open(
    digest: Digest,
    { byName, signal }: { readonly byName: boolean; readonly signal?: AbortSignal | undefined },
  ): Promise<OpenBlob | undefined> {
    const { room, layout } = this.#deps;
    const suspicion = this.#suspicions.get(digest);
    if (suspicion !== undefined) await waitFor(Promise.allSettled([suspicion]), signal);
    if (this.#get(digest)?.isUnverified === true) await waitFor(this.verify(digest), signal);
    const blob = this.#get(digest);
    if (blob === undefined) return undefined;
    const unpin = room.budget.pin(digest);
    try {
      const { sizeBytes } = blob;
      const path = layout.blobPath(digest);
      const file = await this.#openFile(path, sizeBytes, byName);
      if (typeof file === 'string') {
        unpin();
        await this.condemn(digest, blob, file);
        return undefined;
      }
      await this.#touch(digest, path);
      const isWrong = (): boolean => this.#wrong.has(blob);
      return OpenBlob.complete({ digest, blob, path, file, isWrong, onClose: unpin });
    } catch (error) {
      unpin();
      throw error;
    }
  }

  /** Size of a blob that could be opened at the moment. @throws SpandrelError as {@link open} */
  async sizeOf(digest: Digest): Promise<number | undefined> {
    const blob = this.#get(digest);
    // To verify a blob is too much for who only wants to know its size.
    if (blob === undefined || blob.isUnverified === true || this.#suspicions.has(digest)) return undefined;
    const damage = await findOuterDamage(this.#deps.layout.blobPath(digest), blob.sizeBytes);
    if (damage === undefined) return blob.sizeBytes;
    await this.condemn(digest, blob, damage);
    return undefined;
  }

  /** True if the digest has been found right since the start. */
  isProven(blob: StoredBlob): boolean {
    return this.#proven.has(blob);
  }

  /**
   * Read all of a blob, and condemn it if its digest is wrong.
   * @returns false if the store has it no more
   * @throws SpandrelError STORE_FAILED for a reason that lies outside of the file, SHUTTING_DOWN
   */
  verify(digest: Digest): Promise<boolean> {
    const running = this.#verifications.get(digest);
    if (running !== undefined) return running;
    const blob = this.#get(digest);
    if (blob === undefined) return Promise.resolve(false);
    const verification = this.judge(digest, blob, Growth.complete(blob.sizeBytes)).finally(() =>
      this.#verifications.delete(digest),
    );
    this.#verifications.set(digest, verification);
    return verification;
  }

  /** As {@link verify}, where something speaks against the blob: nobody opens it meanwhile. One just found right is not read again. */
  suspect(digest: Digest): Promise<boolean> {
    const running = this.#suspicions.get(digest);
    if (running !== undefined) return running;
    const blob = this.#get(digest);
    const clearedAtMs = blob && this.#clearedAtMs.get(blob);
    if (clearedAtMs !== undefined && performance.now() - clearedAtMs < CLEARED_MS)
      return Promise.resolve(true);
    const suspicion = this.verify(digest)
      .then((isRight) => {
        const cleared = this.#get(digest);
        if (isRight && cleared !== undefined) this.#clearedAtMs.set(cleared, performance.now());
        return isRight;
      })
      .finally(() => this.#suspicions.delete(digest));
    this.#suspicions.set(digest, suspicion);
    return suspicion;
  }

  /** As {@link verify}, at the pace of `growth`. @throws SpandrelError as {@link verify}; the reason of `signal` */
  async judge(digest: Digest, blob: StoredBlob, growth: Growth, signal?: AbortSignal): Promise<boolean> {
    const damage = await this.#findDamage(digest, blob.sizeBytes, growth, signal);
    // What has come in its place meanwhile is another file.
    if (this.#get(digest) !== blob) return this.#get(digest) !== undefined;
    if (damage === undefined) this.keep(digest, blob);
    else await this.condemn(digest, blob, damage);
    return damage === undefined;
  }

  /** The digest of a blob that is in its place has been found right. */
  keep(digest: Digest, blob: StoredBlob): void {
    const { room, ledger, now } = this.#deps;
    const { sizeBytes, heldBytes } = blob;
    const verified = blob.isUnverified === true ? { sizeBytes, heldBytes } : blob;
    if (verified !== blob) room.budget.replace(digest, verified);
    this.#proven.add(verified);
    ledger.record(digest, sizeBytes, now());
  }

  /** Nobody reads the blob any more who has not begun. Does nothing if another has come in its place. */
  async condemn(digest: Digest, blob: StoredBlob, damage: BlobDamage): Promise<void> {
    const { room, health } = this.#deps;
    if (damage === 'digest') this.#wrong.add(blob);
    if (room.budget.get(digest) !== blob) return;
    health.noteDamage('blob', digest, damage);
    await room.remove(digest);
  }

  #get(digest: Digest): StoredBlob | undefined {
    const blob = this.#deps.room.budget.get(digest);
    return blob?.partialPath === undefined ? blob : undefined;
  }

  /** The open file, or what is wrong with it. */
  async #openFile(path: string, sizeBytes: number, byName: boolean): Promise<OpenFile | BlobDamage> {
    const { files } = this.#deps;
    try {
      if (byName) await this.#forgetIfReplaced(path);
      await using opened = new AsyncDisposableStack();
      const file = opened.use(await files.open(path));
      const damage = damageOf(file.stats, sizeBytes);
      if (damage !== undefined) return damage;
      opened.move();
      return file;
    } catch (error) {
      if (isPassingFault(error)) throw storeFault(error, 'open a blob');
      return damageFrom(error);
    }
  }

  /** The file that is open for a path may be another than the one that the path leads to. @throws as `fs.open`, `fs.stat` */
  async #forgetIfReplaced(path: string): Promise<void> {
    const { files } = this.#deps;
    await using file = await files.open(path);
    if (!isSameFile(file.stats, await stat(path))) await files.forget(path);
  }

  async #findDamage(
    digest: Digest,
    sizeBytes: number,
    growth: Growth,
    signal: AbortSignal | undefined,
  ): Promise<BlobDamage | undefined> {
    const path = this.#deps.layout.blobPath(digest);
    const outer = await findOuterDamage(path, sizeBytes);
    if (outer !== undefined) return outer;
    try {
      const actual = await this.#deps.digests.hash(path, growth, digestAlgorithm(digest), signal);
      return actual === digest ? undefined : 'digest';
    } catch (error) {
      if (!isSpandrelError(error, 'STORE_FAILED') || isPassingFault(error)) throw error;
      if (nodeErrorCode(error.cause) !== '') return damageFrom(error.cause);
      // Either the file has become shorter, or the thread has broken.
      const damage = await findOuterDamage(path, sizeBytes);
      if (damage === undefined) throw error;
      return damage;
    }
  }

  /** The order of use survives a restart in the times of the files. */
  async #touch(digest: Digest, path: string): Promise<void> {
    const now = new Date(this.#deps.now());
    if (!this.#deps.room.budget.noteUse(digest, now.getTime())) return;
    // A blob that can be read is served, whatever becomes of its time.
    await utimes(path, now, now).catch(() => undefined);
  }
}

/** @throws SpandrelError STORE_FAILED for a reason that lies outside of the file */
async function findOuterDamage(path: string, sizeBytes: number): Promise<BlobDamage | undefined> {
  try {
    return damageOf(await stat(path), sizeBytes);
  } catch (error) {
    if (isPassingFault(error)) throw storeFault(error, 'look at a blob');
    return damageFrom(error);
  }
}

function isSameFile(opened: Stats, named: Stats): boolean {
  return opened.ino === named.ino && opened.dev === named.dev && opened.size === named.size;
}
