import { describe, expect, it } from 'vitest';

import { readTraceSettings } from '../../src/telemetry/trace-settings.ts';

const ON = { OTEL_TRACES_EXPORTER: 'otlp' };

describe('readTraceSettings', () => {
  it.each([
    {},
    { OTEL_SERVICE_NAME: 'proxy' },
    { OTEL_EXPORTER_OTLP_ENDPOINT: '' },
    { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://c:4318', OTEL_TRACES_EXPORTER: 'none' },
    { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://c:4318', OTEL_SDK_DISABLED: 'TRUE' },
  ])('readTraceSettings turns tracing off with %o', (environment) => {
    expect(readTraceSettings(environment)).toBeUndefined();
  });

  it.each([
    { OTEL_TRACES_EXPORTER: 'otlp' },
    { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://c:4318' },
    {
      OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'http://c:4318/v1/traces',
      OTEL_EXPORTER_OTLP_PROTOCOL: 'http/protobuf',
    },
  ])('readTraceSettings samples all traces with %o', (environment) => {
    expect(readTraceSettings(environment)).toEqual({ sampler: { ratio: 1, isParentBased: true }, batch: {} });
  });

  it.each([
    [{ OTEL_TRACES_SAMPLER: 'always_off' }, { ratio: 0, isParentBased: false }],
    [
      { OTEL_TRACES_SAMPLER: 'traceidratio', OTEL_TRACES_SAMPLER_ARG: '0.25' },
      { ratio: 0.25, isParentBased: false },
    ],
    [
      { OTEL_TRACES_SAMPLER: 'parentbased_traceidratio', OTEL_TRACES_SAMPLER_ARG: '0.01' },
      { ratio: 0.01, isParentBased: true },
    ],
  ])('readTraceSettings samples as %o says', (environment, sampler) => {
    expect(readTraceSettings({ ...ON, ...environment })?.sampler).toEqual(sampler);
  });

  it('readTraceSettings reads the limits of batches', () => {
    const environment = { ...ON, OTEL_BSP_SCHEDULE_DELAY: '100', OTEL_BSP_MAX_QUEUE_SIZE: '64' };
    expect(readTraceSettings(environment)?.batch).toEqual({ scheduledDelayMillis: 100, maxQueueSize: 64 });
  });

  it.each([
    { OTEL_TRACES_EXPORTER: 'zipkin' },
    { ...ON, OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc' },
    { ...ON, OTEL_TRACES_SAMPLER: 'jaeger_remote' },
    { ...ON, OTEL_TRACES_SAMPLER: 'traceidratio', OTEL_TRACES_SAMPLER_ARG: '2' },
    { ...ON, OTEL_BSP_SCHEDULE_DELAY: 'soon' },
  ])('readTraceSettings refuses %o', (environment) => {
    expect(() => readTraceSettings(environment)).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
  });
});
