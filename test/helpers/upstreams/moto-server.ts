import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import type { Readable } from 'node:stream';

import { startProgram } from '../programs.ts';
import { noteSecret } from '../secrets.ts';

/** moto, which plays the control plane of AWS (ECR, STS), on a free port of loopback. */
export class MotoServer implements AsyncDisposable {
  readonly url: string;
  readonly #process: ChildProcess;

  private constructor(url: string, child: ChildProcess) {
    this.url = url;
    this.#process = child;
  }

  static async start(): Promise<MotoServer> {
    const child = startProgram('moto-python', ['-u', '-m', 'moto.server', '-H', '127.0.0.1', '-p', '0'], {
      // Tests of parts need few bytes.
      environment: { S3_UPLOAD_PART_MIN_SIZE: '65536' },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    return new MotoServer(await listening(child.stderr), child);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const exited = once(this.#process, 'exit');
    this.#process.kill('SIGKILL');
    await exited;
  }
}

/** The URL that it prints. It goes on logging, and stops if nobody reads that. */
async function listening(stderr: Readable): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  let log = '';
  let url: string | undefined;
  stderr.on('data', (chunk: Buffer) => {
    if (url !== undefined) return;
    log += String(chunk);
    url = /Running on (http:\/\/127\.0\.0\.1:\d+)/.exec(log)?.[1];
    if (url !== undefined) resolve(url);
  });
  stderr.once('end', () => reject(new Error(`moto did not start:\n${log}`)));
  return promise;
}

/** The token that moto's ECR hands out to an account: base64 of `AWS:password`. */
export function motoToken(account: string): string {
  const password = noteSecret('password of an ECR token', `${account}-auth-token`);
  return Buffer.from(`AWS:${password}`).toString('base64');
}
