import { type ChildProcess, spawn } from 'node:child_process';

import { SpandrelError } from '../../core/errors.ts';
import { shortageFault } from '../../core/system/shortage.ts';
import { TimeLimit } from '../../core/work/time-limit.ts';

export interface HelperRequest {
  readonly upstream: string;
  /** The part of the program's name after `docker-credential-`. */
  readonly helper: string;
  /** Key of the credentials. */
  readonly server: string;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/** The output of a helper. The user name `<token>` means that the secret is an identity token. */
export interface HelperAnswer {
  readonly username: string;
  readonly secret: string;
}

const MAX_OUTPUT_BYTES = 256 * 1024;
/** What a helper without credentials prints: docker-credential-helpers, credentials/error.go. */
const NOT_FOUND = 'credentials not found in native keychain';

/**
 * Runs `docker-credential-<helper> get`; `undefined` if it has no credentials. The helper is killed if it
 * takes too long or prints too much. Nothing that it prints gets into a log or an error.
 * @see docker-credential-helpers, README.md, "Development"
 * @throws SpandrelError UPSTREAM_CREDENTIALS_REFUSED; RESOURCE_EXHAUSTED if no process can be started;
 * SHUTTING_DOWN as the signal says
 */
export async function askCredentialHelper(request: HelperRequest): Promise<HelperAnswer | undefined> {
  const { upstream, helper, server, timeoutMs, signal } = request;
  const fail = (words: string, cause?: unknown): SpandrelError =>
    new SpandrelError(
      'UPSTREAM_CREDENTIALS_REFUSED',
      `upstream ${upstream}: docker-credential-${helper} ${words}`,
      {
        cause,
      },
    );
  // The name comes from a file and becomes part of a program's name.
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(helper)) throw fail('is not the name of a program');
  using time = new TimeLimit(timeoutMs);
  const limit = time.with(signal);
  const chunks: Buffer[] = [];
  let length = 0;
  let status: number | null;
  try {
    // If descriptors are short, `spawn` creates no pipes, whatever its type says.
    const child: ChildProcess = spawn(`docker-credential-${helper}`, ['get'], {
      stdio: ['pipe', 'pipe', 'ignore'],
      signal: limit,
      killSignal: 'SIGKILL',
    });
    const ended = new Promise<number | null>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', resolve);
    });
    // A helper may exit before it reads its input.
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(server);
    child.stdout?.on('data', (chunk: Buffer) => {
      length += chunk.byteLength;
      if (length <= MAX_OUTPUT_BYTES) chunks.push(chunk);
      else child.kill('SIGKILL');
    });
    status = await ended;
  } catch (error) {
    signal.throwIfAborted();
    const shortage = shortageFault(
      error,
      `docker-credential-${helper} of upstream ${upstream} cannot be run`,
    );
    if (shortage !== undefined) throw shortage;
    throw fail(
      limit.aborted ? `takes more than ${timeoutMs} ms` : 'cannot be run',
      limit.aborted ? undefined : error,
    );
  }
  if (length > MAX_OUTPUT_BYTES) throw fail('prints too much');
  const output = Buffer.concat(chunks).toString();
  if (status !== 0) {
    if (output.trim() === NOT_FOUND) return undefined;
    throw fail(`ended with status ${status ?? 'of a signal'}`);
  }
  const answer = parseAnswer(output);
  if (answer === undefined) throw fail('prints something other than credentials');
  return answer;
}

function parseAnswer(output: string): HelperAnswer | undefined {
  try {
    const { Username, Secret } = JSON.parse(output) as { Username?: unknown; Secret?: unknown };
    return typeof Username === 'string' && typeof Secret === 'string'
      ? { username: Username, secret: Secret }
      : undefined;
  } catch {
    // The message would quote the output.
    return undefined;
  }
}
