import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';

import type { Config } from '../../config/config-keys.ts';
import type { PublishRule } from '../../config/publish-rule.ts';
import { isSpandrelError, SpandrelError } from '../../core/errors.ts';
import { escapeControls } from '../../core/escape-controls.ts';
import { parseImageReference, type Reference } from '../../core/image-reference.ts';
import { containerPlatform } from '../../core/platform.ts';
import { IndexPolicies } from '../../images/lazy/index-policy.ts';
import { generalPolicy } from '../../live-settings.ts';
import { chooseTag } from '../../publish/choose-tag.ts';
import { publishImage, type PublishOptions, type PublishOutcome } from '../../publish/publish-image.ts';
import { RemoteLayerIndexer } from '../../publish/remote-layer-indexer.ts';
import { Events } from '../../telemetry/events.ts';
import { silentLogger } from '../../telemetry/logger.ts';
import { realPause } from '../../upstream/transport/backoff-ms.ts';
import { createUpstreams } from '../../upstream/upstreams.ts';
import { configOfCommand } from '../config/read-config.ts';
import { ENGINE_HELP, readOfflineSettings } from '../offline/offline-settings.ts';
import type { CommandHelp, Flags } from '../terminal/command-help.ts';
import { EXIT } from '../terminal/exit-status.ts';
import { parsePlatformFlags } from '../terminal/parse-platform-flags.ts';
import { parseSizeFlag } from '../terminal/parse-size-flag.ts';
import { ProgressBar } from '../terminal/progress-bar.ts';
import { reportError } from '../terminal/report-error.ts';
import { UsageError } from '../terminal/usage-error.ts';
import { chooseRegistry } from './choose-registry.ts';
import { describeOutcome, printOutcome } from './print-outcome.ts';

const FLAGS = {
  tag: {
    type: 'string',
    value: 'TAG',
    about: 'tag for the result (default: as its rule says, else its own and -soci)',
  },
  'no-tag': { type: 'boolean', default: false, about: 'set no tag: push by digest only' },
  v1: {
    type: 'boolean',
    default: false,
    about: 'push SOCI v1 indexes, which leave the image as it is, instead of a converted image',
  },
  platform: {
    type: 'string',
    short: 'p',
    multiple: true,
    default: [],
    value: 'P',
    about: 'platform to index (default: all)',
  },
  'span-size': { type: 'string', value: 'SIZE', about: 'as index.spanBytes (default: 4MiB)' },
  'min-layer-size': { type: 'string', value: 'SIZE', about: 'as index.minLayerBytes (default: 10MiB)' },
  'dry-run': { type: 'boolean', default: false, about: 'index, say what would be pushed, push nothing' },
  'plain-http': { type: 'boolean', default: false, about: 'reach the registry without TLS' },
  config: { type: 'string', value: 'FILE', about: 'configuration file whose upstreams have the registry' },
  json: { type: 'boolean', default: false, about: 'print one JSON object instead of text' },
} satisfies Flags;

export const PUBLISH_HELP: CommandHelp = {
  usage: ['publish IMAGE [--tag TAG | --no-tag | --v1] [--platform P]... [--dry-run] [flags]'],
  about: [
    'Indexes IMAGE (registry/repository:tag) and pushes the result to the same repository, where the ' +
      'soci-snapshotter and ECS on Fargate find it: what `soci create`, `soci convert` and `soci push` do ' +
      'together, byte for byte, without containerd, without a proxy and without a copy of the image.',
    'Layers are read once and neither kept nor pushed. The tag is set last, and only if that of IMAGE has ' +
      'not moved. Run it again after an interruption: what the registry has is not pushed again.',
    'Credentials are those of `docker login`; for Amazon ECR otherwise those of AWS. A registry that ' +
      'needs other settings is an upstream of the configuration.',
    ENGINE_HELP,
  ],
  flags: FLAGS,
  exits: [EXIT.notFound, EXIT.unreachable, EXIT.notLazy],
};

/** `spandrel publish`: indexes an image of a registry, and pushes the indexes to it. */
export async function publish(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({ args, allowPositionals: true, options: FLAGS });
  const [image, ...more] = positionals;
  if (image === undefined || more.length > 0)
    throw new UsageError('expected an image like registry/repository:tag');
  const given = await configOfCommand({ file: values.config, environment: process.env });
  const { name: written, reference } = parseImageReference(image);
  const host = containerPlatform(process.arch);
  const { index } = given;
  const stopping = new AbortController();
  const stop = (): void =>
    stopping.abort(new SpandrelError('SHUTTING_DOWN', 'stopped; run it again to go on'));
  checkTagFlags(values, reference);
  const wanted: WantedOptions = {
    form: values.v1 ? 'v1' : 'full',
    chooseTag: (rule) => tagOf(values, reference, rule),
    platforms: values.platform.length === 0 ? 'all' : parsePlatformFlags(values.platform, host),
    host,
    spanBytes: sizeOf('--span-size', values['span-size'], 1) ?? index.spanBytes,
    minLayerBytes: sizeOf('--min-layer-size', values['min-layer-size'], 0),
    optimizeXattrs: false,
    prefetchPaths: [],
    isDryRun: values['dry-run'],
    signal: stopping.signal,
  };
  const { config, name } = await chooseRegistry(written, given, process.env, values['plain-http']);
  process.once('SIGINT', stop).once('SIGTERM', stop);
  try {
    const { outcome, options } = await publishTo(config, name, reference, wanted);
    const named = `${written}${options.tag === undefined ? '' : `:${options.tag}`}`;
    if (values.json) printOutcome(named, options, outcome);
    else process.stdout.write(`${describeOutcome(named, options, outcome).map(escapeControls).join('\n')}\n`);
    return EXIT.ok;
  } catch (error) {
    if (!isSpandrelError(error, 'INDEX_EMPTY')) throw error;
    reportError(args, error.code, `${error.message}; nothing is pushed`);
    return EXIT.notLazy;
  } finally {
    process.off('SIGINT', stop).off('SIGTERM', stop);
  }
}

/** What the command line wants; the rule of the repository has the rest. */
interface WantedOptions extends Omit<PublishOptions, 'tag' | 'minLayerBytes'> {
  readonly minLayerBytes: number | undefined;
  readonly chooseTag: (rule: PublishRule | undefined) => string | undefined;
}

async function publishTo(
  config: Config,
  name: string,
  reference: Reference,
  { chooseTag: choose, ...wanted }: WantedOptions,
): Promise<{ outcome: PublishOutcome; options: PublishOptions }> {
  const logger = silentLogger();
  await using upstreams = await createUpstreams({
    upstreams: config.upstreams ?? [],
    timing: config.upstream,
    limits: config.limits,
    environment: process.env,
    events: new Events(logger),
    logger,
  });
  const target = upstreams.select({ name });
  const policy = new IndexPolicies(generalPolicy(config), config.index.rules ?? []).of(target);
  const minLayerBytes = wanted.minLayerBytes ?? policy.minLayerBytes;
  const options: PublishOptions = { ...wanted, minLayerBytes, tag: choose(policy.publish) };
  const { engine } = readOfflineSettings(process.env);
  using bar = new ProgressBar(options.isDryRun ? 'indexing' : 'indexing and pushing');
  await using indexer = await RemoteLayerIndexer.open({
    engine,
    limits: config.limits,
    spanBytes: options.spanBytes,
    threads: availableParallelism(),
    retries: config.upstream.retries,
    pause: realPause,
    signal: options.signal,
    onLayer: (bytes) => bar.addTotal(bytes),
    onProgress: (bytes) => bar.add(bytes),
  });
  const indexLayer = indexer.indexLayer.bind(indexer);
  return { outcome: await publishImage(target, reference, options, { indexLayer }), options };
}

interface TagFlags {
  readonly tag?: string | undefined;
  readonly 'no-tag': boolean;
  readonly v1: boolean;
}

/** @throws UsageError */
function checkTagFlags({ tag, 'no-tag': isUntagged, v1 }: TagFlags, reference: Reference): void {
  if (tag !== undefined && (isUntagged || v1))
    throw new UsageError(`--tag and ${v1 ? '--v1' : '--no-tag'} exclude each other`);
  if (tag === undefined && !isUntagged && !v1 && !('tag' in reference))
    throw new UsageError('an image with a digest needs --tag or --no-tag');
  if (tag !== undefined) tagOf({ tag, 'no-tag': isUntagged, v1 }, reference, undefined);
}

/** @throws UsageError */
function tagOf(
  { tag, 'no-tag': isUntagged, v1 }: TagFlags,
  reference: Reference,
  rule: PublishRule | undefined,
): string | undefined {
  if (isUntagged || v1) return undefined;
  try {
    return chooseTag(tag, reference, rule);
  } catch (error) {
    if (!isSpandrelError(error, 'TAG_INVALID', 'DIGEST_INVALID', 'QUERY_INVALID')) throw error;
    throw new UsageError(`--tag: ${error.message}`);
  }
}

function sizeOf(flag: string, text: string | undefined, least: number): number | undefined {
  return text === undefined ? undefined : parseSizeFlag(flag, text, least);
}
