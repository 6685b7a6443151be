import type { Stats } from 'node:fs';
import { stat, utimes } from 'node:fs/promises';

import { type Digest, digestAlgorithm } from '../../core/digest.ts';
import { isSpandrelError } from '../../core/errors.ts';
import { nodeErrorCode } from '../../core/node-error-code.ts';
import { waitFor } from '../../core/wait-for.ts';
import type { BlobDamage } from '../../telemetry/stored-kinds.ts';
import { damageFrom, damageOf } from '../files/damage-of.ts';
import type { BlobLedger } from '../files/blob-ledger.ts';
import type { DigestPool } from './digest-pool.ts';
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
  readonly digests: DigestPool;
  readonly ledger: BlobLedger;
  readonly health: StoreHealth;
  /** As {@link steadyNow}. */
  readonly now: () => number;
}

/** For this long after a verification, new doubts about a blob are ignored: their cause is elsewhere. */
const CLEARED_MS = 60_000;

/**
 * The complete blobs of the store. One whose file is damaged is condemned: it is removed, and the next
 * request fetches it again.
 */
export class CompleteBlobs {
  readonly #deps: CompleteBlobsDeps;
  /** Blobs whose digests were verified since the start. */
  readonly #proven = new WeakSet<StoredBlob>();
  /** Blobs whose files were found not to match their digests. */
  readonly #wrong = new WeakSet<StoredBlob>();
  /** When suspected blobs were last verified, on the clock of `performance`. */
  readonly #clearedAtMs = new WeakMap<StoredBlob, number>();
  readonly #verifications = new Map<Digest, Promise<boolean>>();
  /** Verifications that openers of the blob wait for. */
  readonly #suspicions = new Map<Digest, Promise<boolean>>();

  constructor(deps: CompleteBlobsDeps) {
    this.#deps = deps;
  }

  /** Number of verifications that callers wait for. */
  get verifying(): number {
    return this.#verifications.size;
  }

  /**
   * Opens a blob if the store has it with the right length. A blob without a record is verified first.
   * @param options.byName the file will also be opened by its name: check that the name still leads to it
   * @param options.signal ends the wait for a verification
   * @throws SpandrelError STORE_FAILED for a reason other than the file; the reason of the signal
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

  /** Size of a blob that can be opened now. @throws SpandrelError as {@link open} */
  async sizeOf(digest: Digest): Promise<number | undefined> {
    const blob = this.#get(digest);
    // Verification costs too much when only the size is needed.
    if (blob === undefined || blob.isUnverified === true || this.#suspicions.has(digest)) return undefined;
    const damage = await findOuterDamage(this.#deps.layout.blobPath(digest), blob.sizeBytes);
    if (damage === undefined) return blob.sizeBytes;
    await this.condemn(digest, blob, damage);
    return undefined;
  }

  /** True if the digest was verified since the start. */
  isProven(blob: StoredBlob): boolean {
    return this.#proven.has(blob);
  }

  /**
   * Verifies a blob, and condemns it if its digest is wrong.
   * @returns false if the store no longer has it
   * @throws SpandrelError STORE_FAILED for a reason other than the file, SHUTTING_DOWN
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

  /**
   * As {@link verify}, if there is a reason to doubt the blob: it cannot be opened meanwhile. A blob that was
   * just verified is not read again.
   */
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

  /**
   * As {@link verify}, at the pace of `growth`. @throws SpandrelError as {@link verify}; the reason of
   * `signal`
   */
  async judge(digest: Digest, blob: StoredBlob, growth: Growth, signal?: AbortSignal): Promise<boolean> {
    const damage = await this.#findDamage(digest, blob.sizeBytes, growth, signal);
    // The file may have been replaced meanwhile.
    if (this.#get(digest) !== blob) return this.#get(digest) !== undefined;
    if (damage === undefined) this.keep(digest, blob);
    else await this.condemn(digest, blob, damage);
    return damage === undefined;
  }

  /** Records that the digest of a complete blob was verified. */
  keep(digest: Digest, blob: StoredBlob): void {
    const { room, ledger, now } = this.#deps;
    const { sizeBytes, heldBytes } = blob;
    const verified = blob.isUnverified === true ? { sizeBytes, heldBytes } : blob;
    if (verified !== blob) room.budget.replace(digest, verified);
    this.#proven.add(verified);
    ledger.record(digest, sizeBytes, now());
  }

  /** Removes a damaged blob; current readers keep it. Does nothing if the blob has been replaced. */
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

  /** The open file, or its damage. */
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

  /**
   * Closes the cached file of a path if the path now leads to another file. @throws as `fs.open`, `fs.stat`
   */
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
      // Either the file has become shorter, or the thread has died.
      const damage = await findOuterDamage(path, sizeBytes);
      if (damage === undefined) throw error;
      return damage;
    }
  }

  /** Times of files keep the order of use across restarts. */
  async #touch(digest: Digest, path: string): Promise<void> {
    const now = new Date(this.#deps.now());
    if (!this.#deps.room.budget.noteUse(digest, now.getTime())) return;
    // Failure to set the time does not matter.
    await utimes(path, now, now).catch(() => undefined);
  }
}

/** The damage that `stat` shows. @throws SpandrelError STORE_FAILED for a reason other than the file */
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
