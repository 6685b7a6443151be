import { TEST_MARK } from './collected-output.ts';

export interface KnownSecret {
  readonly name: string;
  readonly value: string;
}

/** A secret that a test's output has; the value is not told. */
export interface Leak {
  readonly test: string;
  readonly secret: string;
}

/** The secrets that are in `output`, as they are or encoded. */
export function findSecrets(output: string, secrets: readonly KnownSecret[]): Leak[] {
  const leaks = new Map<string, Leak>();
  for (const { name, value } of secrets) {
    for (const form of formsOf(value)) {
      let at = output.indexOf(form);
      while (at >= 0) {
        const leak = { test: testAt(output, at), secret: name };
        leaks.set(JSON.stringify(leak), leak);
        const next = output.indexOf(TEST_MARK, at);
        at = next < 0 ? -1 : output.indexOf(form, next);
      }
    }
  }
  return [...leaks.values()];
}

/**
 * The texts that give a value away: itself, as JSON, in a URL, in hexadecimal, and in base64 wherever in the
 * encoded text it begins.
 */
function formsOf(value: string): Set<string> {
  const forms = new Set([
    value,
    JSON.stringify(value).slice(1, -1),
    encodeURIComponent(value),
    Buffer.from(value).toString('hex'),
  ]);
  for (const before of [0, 1, 2]) {
    const bytes = Buffer.concat([Buffer.alloc(before), Buffer.from(value)]);
    // Only characters that stand for bits of the value alone.
    const [first, end] = [Math.ceil((before * 8) / 6), Math.floor((bytes.length * 8) / 6)];
    const base64 = bytes.toString('base64').slice(first, end);
    for (const form of [base64, base64.replaceAll('+', '-').replaceAll('/', '_'), encodeURIComponent(base64)])
      forms.add(form);
  }
  return forms;
}

function testAt(output: string, position: number): string {
  const start = output.lastIndexOf(TEST_MARK, position) + 1;
  return start === 0 ? 'before any test' : output.slice(start, output.indexOf('\n', start));
}
