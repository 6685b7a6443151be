import type { Logger } from './logger.ts';
import { readTraceSettings } from './trace-settings.ts';
import { NO_TRACER, type Tracer } from './tracer.ts';

/**
 * The tracer that the environment configures. Without one, OpenTelemetry is not loaded.
 * @throws SpandrelError CONFIG_INVALID
 */
export async function openTracer(
  environment: Readonly<Record<string, string | undefined>>,
  logger: Logger,
): Promise<Tracer> {
  const settings = readTraceSettings(environment);
  if (settings === undefined) return NO_TRACER;
  const { OtlpTracer } = await import('./otlp-tracer.ts');
  return new OtlpTracer(settings, logger);
}
