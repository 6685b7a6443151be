import { describe, expect, it } from 'vitest';

import { escapeControls, escapeJson, escapeLines } from '../../src/core/escape-controls.ts';
import { type RawText, printForTerminal } from '../../src/tar/raw-text.ts';
import { ODD_NAMES } from '../helpers/layers/odd-names.ts';
import { runProgram } from '../helpers/programs.ts';

/** What `ls` of coreutils would not print as it is, and what turns the direction of text or hides. */
const HARMFUL = [
  ...Array.from({ length: 0x20 }, (_, code) => code),
  ...Array.from({ length: 0x21 }, (_, place) => 0x7f + place),
  0xad,
  0x61c,
  0x200b,
  0x200e,
  0x200f,
  0x2028,
  0x2029,
  0x202a,
  0x202e,
  0x2066,
  0x2069,
  0xfeff,
  0xe0041,
];

describe('text for a terminal', () => {
  it('has no characters that control a terminal or are invisible', () => {
    for (const code of HARMFUL) {
      const character = String.fromCodePoint(code);
      expect(escapeControls(`a${character}b`), code.toString(16)).toMatch(/^a(\\x[0-9a-f]{2})+b$/);
      expect(JSON.parse(escapeJson(JSON.stringify(`a${character}b`)))).toBe(`a${character}b`);
      expect(escapeJson(JSON.stringify(`a${character}b`))).toMatch(/^[ -~]*$/);
    }
  });

  it('is unchanged if it is harmless, in every script', () => {
    for (const text of ['plain', 'Grüße/日本', '😀', 'c\\d'])
      expect([escapeControls(text), escapeLines(text), escapeJson(text)]).toEqual([text, text, text]);
  });

  it('keeps line breaks of a message, and no other control characters', () => {
    expect(escapeLines('one\ntwo\r\u001b[2J\u009b')).toBe('one\ntwo\\x0d\\x1b[2J\\xc2\\x9b');
  });

  it('has escapes that shells and Python decode to the original bytes', async () => {
    const printed = ODD_NAMES.map((name) => printForTerminal(name.toString('latin1') as RawText));
    const script =
      'import codecs, sys\nfor line in sys.stdin.buffer.read().split(b"\\n"): sys.stdout.buffer.write(codecs.escape_decode(line)[0] + b"\\0")';
    const read = await runProgram('python3', ['-c', script], { input: Buffer.from(printed.join('\n')) });
    expect(read.toString('latin1').split('\0').slice(0, -1)).toEqual(
      ODD_NAMES.map((name) => name.toString('latin1')),
    );
  });
});
