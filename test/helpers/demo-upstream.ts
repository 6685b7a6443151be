import { DEMO_SEED, type DemoImage, generateDemoImage } from '../../src/demo/demo-image.ts';
import { DemoRegistry, type DemoRegistryOptions } from '../registry/demo-registry.ts';

/** A scriptable registry that holds a generated image as `app:latest`. */
export async function startDemoRegistry(
  options: DemoRegistryOptions & { readonly scale?: number } = {},
): Promise<DemoRegistry & { readonly image: DemoImage }> {
  const { scale, ...registryOptions } = options;
  const image = await generateDemoImage({ seed: DEMO_SEED, ...(scale === undefined ? {} : { scale }) });
  const registry = await DemoRegistry.start(registryOptions);
  await registry.addImage('app', image);
  return Object.assign(registry, { image });
}
