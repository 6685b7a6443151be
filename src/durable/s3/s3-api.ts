import type { S3Client } from '@aws-sdk/client-s3';

import { S3_HOST } from '../../core/ecr-host.ts';
import { SpandrelError } from '../../core/errors.ts';
import { steadyNow } from '../../core/steady-now.ts';
import type { ObjectState } from '../objects/object-store.ts';

/** The `storage.s3` section of the configuration, as far as it says where the bucket is. */
export interface S3Place {
  readonly bucket: string;
  readonly region: string | undefined;
  readonly endpoint: string | undefined;
  readonly forcePathStyle: boolean | undefined;
}

export interface S3Timeouts {
  readonly connectMs: number;
  /** For a whole request that writes, with its retries apart. */
  readonly requestMs: number;
  readonly retries: number;
}

export interface UploadedPart {
  readonly PartNumber: number;
  readonly ETag: string;
  readonly ChecksumSHA256: string | undefined;
}

export interface UnfinishedUpload {
  readonly name: string;
  readonly id: string;
  /** Milliseconds of the epoch, by the clock of the store. */
  readonly begunAtMs: number;
}

/** What a rule of the bucket does with objects below `prefix`, by their age. */
export interface LifecycleRule {
  readonly prefix: string;
  readonly expiresDays?: number;
  readonly abortsDays?: number;
}

/** The AWS SDK for one bucket. All methods throw the errors of the SDK. Loading takes a tenth of a second. */
export type S3Api = Awaited<ReturnType<typeof openS3Api>>;

const MAX_SOCKETS = 32;
/** The SDK signs with it where it has none; stores other than Amazon S3 mostly ignore it. */
const ANY_REGION = 'us-east-1';
const MAX_LISTED = 1000;
/** Of all objects: for other tools, a blob is its bytes. */
const ContentType = 'application/octet-stream';

/** Age of an object that was last modified then; 0 if the store does not say. */
export function objectAgeMs(modifiedAt: Date | undefined): number {
  const ageMs = modifiedAt === undefined ? 0 : steadyNow() - modifiedAt.getTime();
  return Number.isNaN(ageMs) ? 0 : Math.max(0, ageMs);
}

/** True for Amazon S3 itself, also through an endpoint of a VPC. */
export function isAmazonS3(endpoint: string | undefined): boolean {
  return endpoint === undefined || S3_HOST.test(new URL(endpoint).hostname);
}

/**
 * Opens the AWS SDK for a bucket with its default chain of credentials. The hash of a body is given to it:
 * the SDK would compute it on the event loop.
 * @throws SpandrelError CONFIG_INVALID if nothing says the region
 */
export async function openS3Api(place: S3Place, { connectMs, requestMs, retries }: S3Timeouts) {
  const { bucket: Bucket, endpoint } = place;
  const [sdk, { getSignedUrl }] = await Promise.all([
    import('@aws-sdk/client-s3'),
    import('@aws-sdk/s3-request-presigner'),
  ]);
  const isAmazon = isAmazonS3(endpoint);
  const region = place.region ?? (isAmazon ? undefined : ANY_REGION);
  const client: S3Client = new sdk.S3Client({
    ...(region === undefined ? {} : { region }),
    ...(endpoint === undefined ? {} : { endpoint }),
    forcePathStyle: place.forcePathStyle ?? !isAmazon,
    // Other stores know no new checksums, and Amazon S3 gets one with each write.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    maxAttempts: retries + 1,
    requestHandler: {
      connectionTimeout: connectMs,
      requestTimeout: requestMs,
      throwOnRequestTimeout: true,
      httpAgent: { maxSockets: MAX_SOCKETS, keepAlive: true },
      httpsAgent: { maxSockets: MAX_SOCKETS, keepAlive: true },
    },
  });
  await regionOf(client);
  const checksumOf = (sha256: string): { ChecksumSHA256?: string } =>
    isAmazon ? { ChecksumSHA256: Buffer.from(sha256, 'hex').toString('base64') } : {};

  return {
    region: () => client.config.region(),
    /** A signed URL of an object for GET, whatever its Range. */
    async presign(Key: string, seconds: number): Promise<{ url: URL; expiresAtMs: number }> {
      const command = new sdk.GetObjectCommand({ Bucket, Key });
      const url = await getSignedUrl(client, command, { expiresIn: seconds });
      // A URL ends with the session that signed it.
      const { expiration } = await client.config.credentials();
      const endsAtMs = steadyNow() + seconds * 1000;
      return { url: new URL(url), expiresAtMs: Math.min(endsAtMs, expiration?.getTime() ?? Infinity) };
    },
    async stat(Key: string, abortSignal: AbortSignal): Promise<ObjectState> {
      const found = await client.send(new sdk.HeadObjectCommand({ Bucket, Key }), { abortSignal });
      return { sizeBytes: found.ContentLength ?? 0, ageMs: objectAgeMs(found.LastModified) };
    },
    async put(
      Key: string,
      { Body, sha256, ifAbsent }: { Body: Uint8Array; sha256: string; ifAbsent: boolean },
      abortSignal: AbortSignal,
    ): Promise<void> {
      const condition = ifAbsent ? { IfNoneMatch: '*' } : {};
      const command = new sdk.PutObjectCommand({
        Bucket,
        Key,
        Body,
        ContentType,
        ...checksumOf(sha256),
        ...condition,
      });
      await client.send(withPayloadHash(command, sha256), { abortSignal });
    },
    async remove(Key: string, abortSignal: AbortSignal): Promise<void> {
      await client.send(new sdk.DeleteObjectCommand({ Bucket, Key }), { abortSignal });
    },
    async beginUpload(Key: string, abortSignal: AbortSignal): Promise<string> {
      const checksum = isAmazon ? { ChecksumAlgorithm: 'SHA256' as const } : {};
      const command = new sdk.CreateMultipartUploadCommand({ Bucket, Key, ContentType, ...checksum });
      const { UploadId } = await client.send(command, { abortSignal });
      if (UploadId === undefined)
        throw new SpandrelError('UPSTREAM_PROTOCOL', 'object store: an upload without an id');
      return UploadId;
    },
    async putPart(
      Key: string,
      part: { UploadId: string; PartNumber: number; Body: Uint8Array; sha256: string },
      abortSignal: AbortSignal,
    ): Promise<UploadedPart> {
      const { sha256, ...given } = part;
      const command = new sdk.UploadPartCommand({ Bucket, Key, ...given, ...checksumOf(sha256) });
      const { ETag } = await client.send(withPayloadHash(command, sha256), { abortSignal });
      if (ETag === undefined)
        throw new SpandrelError('UPSTREAM_PROTOCOL', 'object store: a part without an ETag');
      return { PartNumber: part.PartNumber, ETag, ChecksumSHA256: checksumOf(sha256).ChecksumSHA256 };
    },
    /** Makes the object of its parts. @param upload `ifAbsent`: if there is none of the name */
    async completeUpload(
      Key: string,
      { UploadId, parts, ifAbsent }: { UploadId: string; parts: readonly UploadedPart[]; ifAbsent: boolean },
      abortSignal: AbortSignal,
    ): Promise<void> {
      const Parts = parts.map(({ ChecksumSHA256, ...part }) =>
        ChecksumSHA256 === undefined ? part : { ...part, ChecksumSHA256 },
      );
      const condition = ifAbsent ? { IfNoneMatch: '*' } : {};
      const upload = { Bucket, Key, UploadId, MultipartUpload: { Parts }, ...condition };
      await client.send(new sdk.CompleteMultipartUploadCommand(upload), { abortSignal });
    },
    async abortUpload(Key: string, UploadId: string, abortSignal: AbortSignal): Promise<void> {
      await client.send(new sdk.AbortMultipartUploadCommand({ Bucket, Key, UploadId }), { abortSignal });
    },
    /** Unfinished uploads of names with a prefix, a thousand at most. */
    async listUploads(Prefix: string, abortSignal: AbortSignal): Promise<UnfinishedUpload[]> {
      const command = new sdk.ListMultipartUploadsCommand({ Bucket, Prefix, MaxUploads: MAX_LISTED });
      const { Uploads = [] } = await client.send(command, { abortSignal });
      return Uploads.flatMap(({ Key, UploadId, Initiated }) =>
        Key === undefined || UploadId === undefined || Initiated === undefined
          ? []
          : [{ name: Key, id: UploadId, begunAtMs: Initiated.getTime() }],
      );
    },
    /** Enabled rules of the bucket. */
    async lifecycle(abortSignal: AbortSignal): Promise<readonly LifecycleRule[]> {
      const command = new sdk.GetBucketLifecycleConfigurationCommand({ Bucket });
      const { Rules = [] } = await client.send(command, { abortSignal });
      return Rules.filter(({ Status }) => Status === 'Enabled').map((rule) => {
        const { Days: expiresDays } = rule.Expiration ?? {};
        const { DaysAfterInitiation: abortsDays } = rule.AbortIncompleteMultipartUpload ?? {};
        return {
          prefix: rule.Filter?.Prefix ?? rule.Filter?.And?.Prefix ?? rule.Prefix ?? '',
          ...(expiresDays === undefined ? {} : { expiresDays }),
          ...(abortsDays === undefined ? {} : { abortsDays }),
        };
      });
    },
    close: () => client.destroy(),
  };
}

async function regionOf(client: S3Client): Promise<void> {
  try {
    await client.config.region();
  } catch (error) {
    throw new SpandrelError(
      'CONFIG_INVALID',
      'storage.s3.region: is not given, and the AWS SDK finds none (AWS_REGION)',
      { cause: error },
    );
  }
}

interface PatchableCommand {
  readonly middlewareStack: {
    addRelativeTo?: unknown;
    add(middleware: never, options: { step: 'build'; name: string }): void;
  };
}

/** The signature covers the hash of the body; given in a header, the SDK does not compute it. */
function withPayloadHash<C extends PatchableCommand>(command: C, sha256: string): C {
  type Next = (args: { request: { headers: Record<string, string> } }) => unknown;
  const middleware =
    (next: Next): Next =>
    (args) => {
      args.request.headers['x-amz-content-sha256'] = sha256;
      return next(args);
    };
  command.middlewareStack.add(middleware as never, { step: 'build', name: 'spandrelPayloadHash' });
  return command;
}
