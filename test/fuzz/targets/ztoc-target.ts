import { deepStrictEqual, equal, ok } from 'node:assert/strict';

import { digestOf } from '../../../src/core/digest.ts';
import { hasNoXattrs } from '../../../src/soci/has-no-xattrs.ts';
import { readPrefetchLayer } from '../../../src/soci/plan-prefetch.ts';
import { findMountProblem } from '../../../src/ztoc/find-mount-problem.ts';
import { findZtocDifference } from '../../../src/ztoc/find-ztoc-difference.ts';
import { type DecodedZtoc, decodeZtoc } from '../../../src/ztoc/decode-ztoc.ts';
import { encodeZtoc } from '../../../src/ztoc/encode-ztoc.ts';
import { decodeGzipZinfo } from '../../../src/ztoc/gzip-zinfo.ts';
import { OverlapCheck } from '../../../src/ztoc/find-mount-problem.ts';
import { decodeTarZinfo, tarMaxSpanId } from '../../../src/ztoc/tar-zinfo.ts';
import { TocRecords } from '../../../src/index/toc-records.ts';
import { ztocSpans } from '../../../src/ztoc/ztoc-spans.ts';
import type { Ztoc } from '../../../src/ztoc/ztoc.ts';
import { makeZtoc } from '../mutators/mutate-ztoc.ts';
import type { FuzzTarget } from '../target.ts';

export const ztocTarget: FuzzTarget = {
  name: 'ztoc',
  claim:
    'a damaged or lying zTOC is INDEX_MALFORMED, or consistent in itself and the same when encoded again',
  codes: ['INDEX_MALFORMED'],
  testCases: 2500,
  makeInput: makeZtoc,
  read(input) {
    const ztoc = decodeZtoc(input);
    checkSpans(ztoc);
    checkEntries(ztoc);
    checkUses(ztoc);
    deepStrictEqual(decodeZtoc(encodeZtoc(ztoc)), { ...ztoc, checkpoints: new Uint8Array(ztoc.checkpoints) });
  },
};

/** The uses of a pushed zTOC. */
function checkUses(ztoc: DecodedZtoc): void {
  const whole = { start: 0, end: Number.POSITIVE_INFINITY };
  for (const { id, compressed, bits, window } of ztocSpans(ztoc, whole)) {
    ok(id <= ztoc.maxSpanId && bits < 8 && (window.length === 0 || window.length === 32_768));
    ok(compressed.start >= 0 && compressed.end <= ztoc.compressedArchiveSize);
  }
  findMountProblem(ztoc);
  equal(findZtocDifference(ztoc, ztoc), undefined);
  hasNoXattrs(ztoc);
  const layer = readPrefetchLayer(digestOf(''), ztoc);
  for (const { uncompressedOffset } of ztoc.entries)
    ok(Number.isSafeInteger(layer.spanIdAt(uncompressedOffset)));
}

function checkSpans(ztoc: Ztoc): void {
  equal(ztoc.spanDigests.length, ztoc.maxSpanId + 1);
  if (ztoc.compression === 'none') {
    const zinfo = decodeTarZinfo(ztoc.checkpoints);
    equal(tarMaxSpanId(zinfo), ztoc.maxSpanId);
    equal(zinfo.sizeBytes, ztoc.compressedArchiveSize);
    return;
  }
  let before = { compressedOffset: 0, uncompressedOffset: 0 };
  for (const checkpoint of decodeGzipZinfo(ztoc.checkpoints).checkpoints) {
    const { compressedOffset, uncompressedOffset, bits, window } = checkpoint;
    ok(compressedOffset >= before.compressedOffset && uncompressedOffset >= before.uncompressedOffset);
    ok(compressedOffset <= ztoc.compressedArchiveSize);
    ok(bits < 8 && window.length === 32_768);
    before = checkpoint;
  }
}

function checkEntries(ztoc: DecodedZtoc): void {
  const overlap = new OverlapCheck();
  const records = new TocRecords();
  for (const [index, entry] of ztoc.entries.entries()) {
    ok(entry.uncompressedOffset >= 0 && entry.uncompressedOffset <= ztoc.uncompressedArchiveSize);
    overlap.add(entry);
    records.add(entry);
    deepStrictEqual(records.at(index), entry);
  }
  ok(overlap.problem === undefined || overlap.problem !== '');
}
