import { readFile } from 'node:fs/promises';

import { isSystemError } from '../../core/node-error-code.ts';
import { percentDecode } from '../../tar/percent-encode.ts';
import { parseRawText, type RawText } from '../../tar/raw-text.ts';
import { UsageError } from './usage-error.ts';

const REPLACEMENT = '\ufffd';
/** proc(5). */
const OWN_ARGUMENTS = '/proc/self/cmdline';

/**
 * The bytes of a path on the command line. Node decodes arguments as UTF-8 and loses invalid bytes; Linux
 * still has them.
 * @param text       the argument as Node decodes it
 * @param isEncoded  the argument is percent-encoded, as `nameBytes` in JSON
 * @throws UsageError if the bytes are lost
 */
export async function readPathArgument(text: string, isEncoded: boolean): Promise<RawText> {
  if (isEncoded) return percentDecode(text);
  if (!text.includes(REPLACEMENT)) return parseRawText(text);
  const argument = (await readOwnArguments()).find(
    (bytes) => Buffer.from(bytes, 'latin1').toString() === text,
  );
  if (argument === undefined)
    throw new UsageError(
      'the path is not UTF-8 and its bytes are lost: percent-encode it, and add --encoded',
    );
  return argument as RawText;
}

/** Raw bytes, one character each; empty if there is no such file. */
async function readOwnArguments(): Promise<string[]> {
  try {
    return (await readFile(OWN_ARGUMENTS, 'latin1')).split('\0');
  } catch (error) {
    if (isSystemError(error)) return [];
    throw error;
  }
}
