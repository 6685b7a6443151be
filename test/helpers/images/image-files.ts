import type { NodeFile } from '../../oracles/node-files.ts';

/** What the file API shows of a path. */
export type ShownFile = Pick<NodeFile, 'type' | 'mode' | 'content' | 'linkname'>;

interface ListedEntry {
  readonly name: string;
  readonly nameBytes?: string;
  readonly type: string;
  readonly size: number;
  readonly mode: number;
  readonly linkname?: string;
  readonly linknameBytes?: string;
}

/** An image as a proxy's file API shows it. Paths and contents are bytes, one character each. */
export class ImageFilesClient {
  readonly #base: string;

  /** @param repository whose tag `latest` is meant */
  constructor(proxyUrl: string, repository: string) {
    this.#base = `${proxyUrl}/v2/${repository}/_soci/images/latest/files/`;
  }

  get(path: string, query = ''): Promise<Response> {
    return fetch(`${this.#base}${quotePath(path)}${query}`);
  }

  /** Everything in the image. @throws Error for what cannot be read */
  async readAll(): Promise<Map<string, ShownFile>> {
    const files = new Map<string, ShownFile>();
    const read = async (path: string): Promise<void> => {
      for (const entry of await this.list(path)) {
        const name = rawText(entry.name, entry.nameBytes);
        const below = path === '' ? name : `${path}/${name}`;
        files.set(below, await this.#show(below, entry));
        if (entry.type === 'dir') await read(below);
      }
    };
    await read('');
    return files;
  }

  /** All entries of a directory, page by page, `limit` in one. */
  async list(path: string, limit?: number): Promise<ListedEntry[]> {
    const found: ListedEntry[] = [];
    for (let query = limit === undefined ? '' : `limit=${limit}`; ;) {
      const text = (await this.#read(path, `?${query}`)).toString();
      const { entries, next } = JSON.parse(text) as { entries: ListedEntry[]; next?: string };
      found.push(...entries);
      if (next === undefined) return found;
      query = `after=${encodeURIComponent(next)}${limit === undefined ? '' : `&limit=${limit}`}`;
    }
  }

  async #show(path: string, { type, mode, size, linkname, linknameBytes }: ListedEntry): Promise<ShownFile> {
    const content = type === 'reg' ? (await this.#read(path)).toString('latin1') : undefined;
    if (content !== undefined && content.length !== size)
      throw new Error(`${path} has ${content.length} bytes, the listing says ${size}`);
    return {
      type,
      mode,
      ...(content === undefined ? {} : { content }),
      ...(linkname === undefined ? {} : { linkname: rawText(linkname, linknameBytes) }),
    };
  }

  async #read(path: string, query = ''): Promise<Buffer> {
    const response = await this.get(path, query);
    const body = Buffer.from(await response.arrayBuffer());
    if (!response.ok) throw new Error(`${path}: ${response.status} ${body.toString()}`);
    return body;
  }
}

function quotePath(path: string): string {
  return path.replace(
    /[^A-Za-z0-9/]/g,
    (character) => `%${character.charCodeAt(0).toString(16).padStart(2, '0')}`,
  );
}

function rawText(text: string, quotedBytes: string | undefined): string {
  if (quotedBytes === undefined) return Buffer.from(text, 'utf8').toString('latin1');
  return quotedBytes.replace(/%([0-9A-Fa-f]{2})/g, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
}
