import type { Config } from '../config/config-keys.ts';
import { DEMO_SEED, type DemoImage, generateDemoImage } from '../demo/demo-image.ts';
import { DemoServer } from '../demo/demo-server.ts';

export interface EmbeddedDemo extends AsyncDisposable {
  readonly config: Config;
  readonly registry: DemoServer;
  readonly image: DemoImage;
}

/** Starts the embedded registry and returns `config` with it as the only upstream. */
export async function startEmbeddedDemo(config: Config): Promise<EmbeddedDemo> {
  // Always the same image, so that the store of an earlier start is reused.
  const image = await generateDemoImage({ seed: DEMO_SEED });
  const registry = await DemoServer.start();
  await registry.addImage('app', image);
  const upstream = {
    name: 'demo',
    host: registry.host,
    url: registry.url,
    hostnames: [],
    default: true,
    auth: { kind: 'anonymous' },
  } as const;
  return {
    config: { ...config, upstreams: [upstream] },
    registry,
    image,
    [Symbol.asyncDispose]: () => registry[Symbol.asyncDispose](),
  };
}
