import type { FuzzTarget } from '../target.ts';
import { FAULTY_TARGETS } from './faulty-targets.ts';
import { indexFileTarget } from './index-file-target.ts';
import {
  imageConfigTarget,
  largeDocumentTarget,
  manifestTarget,
  ociDocumentTarget,
  referrersTarget,
  sociIndexTarget,
} from './json-targets.ts';
import { gzipLayerTarget, tarLayerTarget, zstdLayerTarget } from './layer-targets.ts';
import { indexSpansTarget } from './index-spans-target.ts';
import { peerRequestTarget, peerResponseTarget, replicaRecordTarget } from './peer-targets.ts';
import { inflateSpanTarget, zstdSpanTarget } from './span-targets.ts';
import { tarPartsTarget } from './tar-parts-target.ts';
import { answerHeadTarget, platformTarget, rangeHeaderTarget, registryPathTarget } from './text-targets.ts';
import { treeTarget } from './tree-target.ts';
import { gzipZinfoTarget, tarZinfoTarget } from './zinfo-targets.ts';
import { ztocTarget } from './ztoc-target.ts';

export const ALL_TARGETS: readonly FuzzTarget[] = [
  ztocTarget,
  gzipZinfoTarget,
  tarZinfoTarget,
  tarPartsTarget,
  tarLayerTarget,
  gzipLayerTarget,
  zstdLayerTarget,
  inflateSpanTarget,
  zstdSpanTarget,
  indexFileTarget,
  indexSpansTarget,
  treeTarget,
  manifestTarget,
  ociDocumentTarget,
  sociIndexTarget,
  referrersTarget,
  imageConfigTarget,
  largeDocumentTarget,
  rangeHeaderTarget,
  registryPathTarget,
  answerHeadTarget,
  platformTarget,
  peerRequestTarget,
  peerResponseTarget,
  replicaRecordTarget,
];

/** Finds the targets that test the fuzzer, too. */
export function findTarget(name: string): FuzzTarget {
  const target = [...ALL_TARGETS, ...FAULTY_TARGETS].find((candidate) => candidate.name === name);
  if (target === undefined) throw new Error(`no such target: ${name}`);
  return target;
}
