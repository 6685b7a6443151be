import { type ErrorCode, ERRORS } from '../../core/errors.ts';
import { systemStep } from '../../client/system-step.ts';

const PUSH_AGAIN = 'push the layer again: the bytes of the registry do not match its digest';
const NOT_AN_IMAGE = 'nothing: artifacts that are not images are passed through, and never lazy';
const SEE_UPSTREAM = 'run "spandrel doctor --config FILE" where the proxy runs';

/** What the user should do, by error code. Codes without an entry pass by themselves, or are defects. */
const STEPS: Partial<Record<ErrorCode, string>> = {
  NAME_UNKNOWN:
    'begin the name with that of an upstream (ecr/team/app:1.2), and look for the repository there',
  MANIFEST_UNKNOWN: 'look for the tag in the registry behind the proxy',
  PLATFORM_UNKNOWN: 'name a platform that the image has',
  UNAUTHORIZED: "this node's credentials are missing or refused: see access in the proxy's configuration",
  UPSTREAM_CREDENTIALS_REFUSED:
    "correct auth of this upstream in the proxy's configuration: its credentials are missing, wrong or " +
    'expired (ECR passwords expire after 12 hours)',
  DENIED:
    "the proxy's credentials may not read this repository (ECR: ecr:BatchGetImage and " +
    'ecr:GetDownloadUrlForLayer), or access refuses this node',
  UPSTREAM_UNREACHABLE:
    'check url, ca, DNS and the egress of the proxy (ECR: VPC endpoints ecr.dkr, ecr.api, S3); ' +
    SEE_UPSTREAM,
  UPSTREAM_TIMEOUT: `check the egress of the proxy: security groups, NAT, VPC endpoints; ${SEE_UPSTREAM}`,
  UPSTREAM_PROXY_REFUSED: 'check proxy of this upstream, HTTPS_PROXY, HTTP_PROXY and NO_PROXY',
  UPSTREAM_PROTOCOL:
    'check url of this upstream: the server is not a registry, or a gateway is in front of it',
  UPSTREAM_THROTTLED: 'wait until the registry takes requests again, or raise its quota',
  IMAGE_UNSUPPORTED: NOT_AN_IMAGE,
  STORE_FULL:
    'see the log of the proxy: ENOSPC means that the disk is full (free it); else raise storage.maxBytes',
  STORE_FAILED:
    "check the disk of the proxy: storage.root must be writable (read-only, I/O errors: the proxy's log)",
  BLOB_CORRUPT: PUSH_AGAIN,
  SPAN_CORRUPT: PUSH_AGAIN,
  BLOB_UNKNOWN: 'push the layer to the registry, or mirror the image again: no node can pull it either',
  LAYER_CORRUPT: 'push the image again: the compressed stream of the layer is damaged or cut short',
  LAYER_TOO_LARGE:
    'raise limits.maxUncompressedBytes, limits.maxTocEntries (files) or limits.maxTocBytes (names and more)',
  LAYER_UNSUPPORTED:
    'build the layer again with gzip: it is no archive, or SOCI does not index its compression',
  RANGE_TOO_COSTLY:
    'build the layer with zstd:chunked or gzip, which can be read in parts, or raise limits.maxSkippedBytes',
  TAR_INVALID: 'build the image again: the layer is not a well-formed tar',
  TAR_UNSUPPORTED: 'build the layer without entries that SOCI cannot index, such as sparse files',
  INDEX_UNMOUNTABLE: 'build the layer again: the snapshotter would refuse its index',
  DIGEST_INVALID: 'build the image again with sha256 digests: no node can verify it either',
  WORKER_FAILED: 'give the proxy more memory or file descriptors: a worker thread died',
  RESOURCE_EXHAUSTED:
    'raise the limit of the proxy that the message names: LimitNOFILE (ulimit -n), memory, processes (pids)',
  CONFIG_INVALID: "correct the proxy's configuration",
};

/** What to do about an error. Never "try again" for what does not pass. */
export function nextStep(code: ErrorCode, error?: unknown): string {
  const system = systemStep(error);
  if (system !== undefined) return system;
  const step = STEPS[code];
  if (step !== undefined) return step;
  return ERRORS[code].retryable
    ? 'it passes by itself: run doctor again in a minute'
    : `look for ${code} in the log of the proxy`;
}
