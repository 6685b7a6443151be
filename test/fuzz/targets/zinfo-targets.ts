import { deepStrictEqual, ok } from 'node:assert/strict';

import { decodeZtoc } from '../../../src/ztoc/decode-ztoc.ts';
import { decodeGzipZinfo, encodeGzipZinfo } from '../../../src/ztoc/gzip-zinfo.ts';
import { decodeTarZinfo, encodeTarZinfo, tarMaxSpanId } from '../../../src/ztoc/tar-zinfo.ts';
import { pickNumber } from '../mutators/interesting.ts';
import { mutateBytes } from '../mutators/mutate-bytes.ts';
import { mutateGzipZinfo } from '../mutators/mutate-zinfo.ts';
import type { FuzzTarget } from '../target.ts';

export const gzipZinfoTarget: FuzzTarget = {
  name: 'gzip-zinfo',
  claim: 'a damaged gzip zinfo is INDEX_MALFORMED or the same when encoded again',
  codes: ['INDEX_MALFORMED'],
  testCases: 2000,
  makeInput(dice, corpus) {
    const zinfo = Buffer.from(decodeZtoc(dice.pick(corpus.ztocs).bytes).checkpoints);
    return dice.chance(0.2) ? mutateBytes(dice, zinfo) : mutateGzipZinfo(dice, zinfo);
  },
  read(input) {
    const { spanBytes, checkpoints } = decodeGzipZinfo(input);
    const again = encodeGzipZinfo(spanBytes, checkpoints, (index, target) =>
      target.set(checkpoints[index]?.window ?? []),
    );
    deepStrictEqual(decodeGzipZinfo(again).checkpoints.length, checkpoints.length);
    // Version 1 omits the first checkpoint.
    ok(
      Buffer.from(again)
        .subarray(-32_768)
        .equals(checkpoints.at(-1)?.window ?? new Uint8Array(0)),
    );
    ok(again.length - input.length === 0 || again.length - input.length === 17 + 32_768);
  },
};

export const tarZinfoTarget: FuzzTarget = {
  name: 'tar-zinfo',
  claim: 'a damaged tar zinfo is INDEX_MALFORMED or the same when encoded again',
  codes: ['INDEX_MALFORMED'],
  testCases: 5000,
  makeInput(dice) {
    const number = (): number =>
      Number(BigInt.asIntN(64, dice.chance(0.5) ? pickNumber(dice) : BigInt(dice.skewed(2 ** 40))));
    const zinfo = Buffer.from(encodeTarZinfo({ spanBytes: number(), sizeBytes: number() }));
    return dice.chance(0.6) ? mutateBytes(dice, zinfo) : zinfo;
  },
  read(input) {
    const zinfo = decodeTarZinfo(input);
    deepStrictEqual(decodeTarZinfo(encodeTarZinfo(zinfo)), zinfo);
    const last = tarMaxSpanId(zinfo);
    ok(Number.isSafeInteger(last) && last >= -1);
  },
};
