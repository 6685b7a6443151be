import { key, optional } from './config-key.ts';
import { bucketName, choice, flag, httpOrigin, objectPrefix, sizeOrOff, text } from '../value-kinds.ts';

/** The rows of the configuration table about the durable tier. */
export const DURABLE_KEYS = {
  'storage.s3.bucket': optional(
    bucketName,
    'bucket of the durable tier, on Amazon S3 or any store with its API: replicas share it, and it ' +
      'outlives their disks. Credentials come from the AWS SDK (environment, web identity, container, ' +
      'instance)',
  ),
  'storage.s3.prefix': optional(objectPrefix, 'beginning of the names of all objects, such as `spandrel/`'),
  'storage.s3.region': optional(text, "region of the bucket; the default is the AWS SDK's (`AWS_REGION`)"),
  'storage.s3.endpoint': optional(httpOrigin, 'URL of the store, if it is not Amazon S3'),
  'storage.s3.forcePathStyle': optional(
    flag,
    'whether the bucket is a part of the path instead of the host name; the default is `true` with an ' +
      '`endpoint` that is not of Amazon S3',
  ),
  'storage.s3.blobs': key(
    choice('auto', 'always', 'never'),
    'auto',
    'which blobs are copied to the bucket: `auto` leaves out those of Amazon ECR in the region of the ' +
      'bucket, which are in S3 already. Indexes, manifests and other records always are',
  ),
  'storage.s3.writeBytesPerSecond': key(
    sizeOrOff(65_536),
    '64MiB',
    'most bytes of blobs that a replica writes to the bucket in a second, in the background; `off` for no ' +
      'limit',
  ),
  'redirect.blobs': key(
    choice('never', 'whole'),
    'never',
    '`whole`: a request for a whole blob, by a client that is no snapshotter, may be redirected to the ' +
      'durable tier, or to the URL that the upstream signed: such bytes do not pass through the proxy, and ' +
      'the client must reach that host',
  ),
} as const;
