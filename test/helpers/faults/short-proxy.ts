import { readdir } from 'node:fs/promises';
import { type Agent, get } from 'node:http';
import { buffer } from 'node:stream/consumers';

import { runProgram } from '../programs.ts';
import { serveWith } from '../proxy-with.ts';
import type { SpandrelProcess } from '../spandrel-process.ts';

/** A response. */
export interface Got {
  readonly status: number;
  readonly body: Buffer;
}

/** Over a connection that is kept; nothing if it is cut, or if nothing comes for a while. */
export function ask(agent: Agent, url: string): Promise<Got | undefined> {
  return new Promise((resolve) => {
    const request = get(url, { agent, timeout: 8_000 }, (response) => {
      buffer(response).then(
        (body) => resolve({ status: response.statusCode ?? 0, body }),
        () => resolve(undefined),
      );
    });
    request.once('timeout', () => request.destroy());
    request.once('error', () => resolve(undefined));
  });
}

/** A proxy in a process of its own, whose descriptors can be made few. */
export class ShortProxy {
  readonly url: string;
  readonly adminUrl: string;
  readonly process: SpandrelProcess;

  private constructor(process: SpandrelProcess, urls: { url: string; adminUrl: string }) {
    this.process = process;
    this.url = urls.url;
    this.adminUrl = urls.adminUrl;
  }

  /** It is killed at the end of the test. */
  static async start(
    upstream: { readonly url: string },
    environment: Readonly<Record<string, string>> = {},
  ): Promise<ShortProxy> {
    const { process, ...urls } = await serveWith(upstream, {
      environment: { SPANDREL_INDEX_MIN_LAYER_BYTES: '0', ...environment },
    });
    return new ShortProxy(process, urls);
  }

  async limit(descriptors: number): Promise<void> {
    await runProgram('prlimit', [`--nofile=${descriptors}:`, '--pid', String(this.process.pid)]);
  }

  async descriptors(): Promise<number> {
    return (await readdir(`/proc/${this.process.pid}/fd`)).length;
  }
}
