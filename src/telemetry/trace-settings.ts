import { SpandrelError } from '../core/errors.ts';

/**
 * Settings of tracing from OpenTelemetry's standard environment variables, except those that the exporter
 * reads itself.
 */
export interface TraceSettings {
  readonly sampler: {
    /** Sampled share of the traces that begin here, 0 to 1. */
    readonly ratio: number;
    /** True if the decision of the caller takes precedence. */
    readonly isParentBased: boolean;
  };
  readonly batch: {
    readonly scheduledDelayMillis?: number;
    readonly exportTimeoutMillis?: number;
    readonly maxQueueSize?: number;
    readonly maxExportBatchSize?: number;
  };
}

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Reads the settings; `undefined` if no exporter or endpoint is named (OpenTelemetry Environment Variable
 * Specification).
 * @throws SpandrelError CONFIG_INVALID for unsupported or invalid values
 */
export function readTraceSettings(environment: Environment): TraceSettings | undefined {
  const read = (name: string): string | undefined => environment[name]?.trim() || undefined;
  const endpoint = read('OTEL_EXPORTER_OTLP_TRACES_ENDPOINT') ?? read('OTEL_EXPORTER_OTLP_ENDPOINT');
  const exporter = read('OTEL_TRACES_EXPORTER') ?? (endpoint === undefined ? 'none' : 'otlp');
  if (exporter === 'none' || read('OTEL_SDK_DISABLED')?.toLowerCase() === 'true') return undefined;
  if (exporter !== 'otlp') throw invalid('OTEL_TRACES_EXPORTER', 'otlp or none');
  const protocol = read('OTEL_EXPORTER_OTLP_TRACES_PROTOCOL') ?? read('OTEL_EXPORTER_OTLP_PROTOCOL');
  if (protocol?.startsWith('http/') === false) throw invalid('OTEL_EXPORTER_OTLP_PROTOCOL', 'http/json');
  const batch = {
    scheduledDelayMillis: readWhole(read, 'OTEL_BSP_SCHEDULE_DELAY'),
    exportTimeoutMillis: readWhole(read, 'OTEL_BSP_EXPORT_TIMEOUT'),
    maxQueueSize: readWhole(read, 'OTEL_BSP_MAX_QUEUE_SIZE'),
    maxExportBatchSize: readWhole(read, 'OTEL_BSP_MAX_EXPORT_BATCH_SIZE'),
  };
  const given = Object.entries(batch).filter(([, value]) => value !== undefined);
  return { sampler: readSampler(read), batch: Object.fromEntries(given) as TraceSettings['batch'] };
}

type Read = (name: string) => string | undefined;

function readSampler(read: Read): TraceSettings['sampler'] {
  const name = read('OTEL_TRACES_SAMPLER') ?? 'parentbased_always_on';
  const isParentBased = name.startsWith('parentbased_');
  switch (name.replace(/^parentbased_/, '')) {
    case 'always_on':
      return { isParentBased, ratio: 1 };
    case 'always_off':
      return { isParentBased, ratio: 0 };
    case 'traceidratio':
      return { isParentBased, ratio: readRatio(read) };
    default:
      throw invalid('OTEL_TRACES_SAMPLER', 'always_on, always_off, traceidratio, or parentbased_ with one');
  }
}

function readRatio(read: Read): number {
  const ratio = Number(read('OTEL_TRACES_SAMPLER_ARG') ?? 1);
  if (ratio >= 0 && ratio <= 1) return ratio;
  throw invalid('OTEL_TRACES_SAMPLER_ARG', 'a number from 0 to 1');
}

function readWhole(read: Read, name: string): number | undefined {
  const text = read(name);
  if (text === undefined) return undefined;
  if (!/^\d{1,9}$/.test(text)) throw invalid(name, 'a whole number');
  return Number(text);
}

function invalid(name: string, expected: string): SpandrelError {
  return new SpandrelError('CONFIG_INVALID', `${name}: expected ${expected}`);
}
