import promises, { type FileHandle } from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';

/** Calls of `node:fs/promises`, with those of its file handles. */
export const FILE_OPERATIONS = [
  'open',
  'readFile',
  'writeFile',
  'appendFile',
  'rename',
  'link',
  'rm',
  'mkdir',
  'stat',
  'utimes',
  'read',
  'writev',
  'truncate',
  'sync',
  'close',
] as const;
export type FileOperation = (typeof FILE_OPERATIONS)[number];

type Calls = Partial<Record<FileOperation, (...args: unknown[]) => Promise<unknown>>>;

export interface FailingFilesOptions {
  /** Files below this folder are concerned. */
  readonly folder: string;
  readonly operations: readonly FileOperation[];
  /** The system's name of the error: `EIO`. */
  readonly code: string;
}

/**
 * A file system that fails, for codes that no device can be made to give everywhere: every one of some
 * operations of this thread rejects, as long as this is not disposed of. Worker threads are not concerned. A
 * file whose `close` fails is closed all the same, as by the system.
 */
export class FailingFiles implements Disposable {
  readonly #options: FailingFilesOptions;
  readonly #restores: (() => void)[] = [];
  /** Where handles that are opened meanwhile lead to. */
  readonly #paths = new WeakMap<FileHandle, string>();
  #failures = 0;
  #isOver = false;

  private constructor(options: FailingFilesOptions, methods: Calls) {
    this.#options = options;
    for (const name of FILE_OPERATIONS) {
      this.#replaceCall(name);
      this.#replaceMethod(name, methods);
    }
    syncBuiltinESMExports();
  }

  static async create(options: FailingFilesOptions): Promise<FailingFiles> {
    await using handle = await promises.open(import.meta.filename);
    return new FailingFiles(options, Object.getPrototypeOf(handle) as Calls);
  }

  /** Calls that have failed. */
  get failures(): number {
    return this.#failures;
  }

  #replaceCall(name: FileOperation): void {
    const calls = promises as unknown as Calls;
    const original = calls[name];
    if (original === undefined) return;
    calls[name] = async (...args) => {
      const path = String(args[0]);
      this.#failIfConcerned(name, path);
      const result = await original(...args);
      if (name === 'open') this.#noteOpened(result as FileHandle, path);
      return result;
    };
    this.#restores.push(() => (calls[name] = original));
  }

  #replaceMethod(name: FileOperation, methods: Calls): void {
    const original = methods[name];
    if (original === undefined) return;
    const failIfConcerned = (handle: unknown): void =>
      this.#failIfConcerned(name, this.#paths.get(handle as FileHandle) ?? '');
    methods[name] = async function (this: unknown, ...args: unknown[]) {
      failIfConcerned(this);
      return original.apply(this, args);
    };
    this.#restores.push(() => (methods[name] = original));
  }

  /** A handle has its `close` as a property of its own. */
  #noteOpened(handle: FileHandle, path: string): void {
    this.#paths.set(handle, path);
    const close = handle.close.bind(handle);
    handle.close = async () => {
      await close();
      this.#failIfConcerned('close', path);
    };
  }

  #failIfConcerned(name: FileOperation, path: string): void {
    const { folder, operations, code } = this.#options;
    if (this.#isOver || !operations.includes(name) || !path.startsWith(`${folder}/`)) return;
    this.#failures++;
    const error = new Error(`${code}: made to fail, ${name} '${path}'`);
    throw Object.assign(error, { code, syscall: name, path });
  }

  [Symbol.dispose](): void {
    this.#isOver = true;
    for (const restore of this.#restores) restore();
    syncBuiltinESMExports();
  }
}
