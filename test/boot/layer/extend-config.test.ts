import { describe, expect, it } from 'vitest';

import { extendConfig } from '../../../src/boot/layer/extend-config.ts';
import { digestOf } from '../../../src/core/digest.ts';

const [A, B, BOOT] = [digestOf('a'), digestOf('b'), digestOf('boot')];
const ENTRY =
  '"created_by":"spandrel boot layer",' +
  '"comment":"copies of files from the layers below that containers read when they start"}';

function extend(config: string, layers = 2): string {
  return extendConfig(Buffer.from(config), BOOT, layers).toString();
}

const unsupported = expect.objectContaining({ code: 'IMAGE_UNSUPPORTED' }) as Error;

describe('extendConfig', () => {
  it('adds a diffID and an entry of the history, and leaves every other byte as it is', () => {
    const config = (ids: string, entries: string): string =>
      `{ "history" : [ {"created":"2026-01-02T03:04:05.6Z","x":[1, 2]}${entries}\n ],\t"A":"\\u00e9 [",` +
      `"config":{"rootfs":{"diff_ids":[]},"Env":["history=[]"]}, "rootfs":{"type":"layers",` +
      `"diff_ids":["${A}" , "${B}"${ids} ]}, "n":1.0, "os":"linux" }\n`;
    expect(extend(config('', ''))).toBe(
      config(`,"${BOOT}"`, `,{"created":"2026-01-02T03:04:05.6Z",${ENTRY}`),
    );
  });

  it('adds no history where there is none', () => {
    for (const history of ['', '"history":[],', '"history":null,']) {
      const config = (ids: string): string => `{${history}"rootfs":{"diff_ids":["${A}","${B}"${ids}]}}`;
      expect(extend(config(''))).toBe(config(`,"${BOOT}"`));
    }
  });

  it('dates its entry 1970 if the one before it has no time', () => {
    const config = `{"rootfs":{"diff_ids":["${A}"]},"history":[{"created":"yesterday"}]}`;
    expect(extend(config, 1)).toContain(`,{"created":"1970-01-01T00:00:00Z",${ENTRY}`);
  });

  it.each([
    ['other text', 'hello'],
    ['a list', '[]'],
    ['no diffIDs', '{"rootfs":{}}'],
    ['fewer diffIDs than layers', `{"rootfs":{"diff_ids":["${A}"]}}`],
    ['diffIDs twice', `{"rootfs":{"diff_ids":["${A}"],"diff_ids":["${A}","${B}"]}}`],
    ['diffIDs once more in other letters', `{"rootfs":{"diff_ids":["${A}","${B}"],"DIFF_IDs":[]}}`],
    ['two file systems', `{"rootf\u017f":{},"rootfs":{"diff_ids":["${A}","${B}"]}}`],
    [
      'an escaped name',
      `{"rootfs":{"diff_ids":["${A}","${B}"]},"\\u0072ootfs":{"diff_ids":["${A}","${B}"]}}`,
    ],
  ])('refuses a config with %s', (_, config) => {
    expect(() => extend(config)).toThrow(unsupported);
  });
});
