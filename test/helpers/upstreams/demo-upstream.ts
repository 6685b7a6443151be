import { DEMO_SEED, type DemoImage, generateDemoImage } from '../../../src/demo/demo-image.ts';
import { ScriptedRegistry, type ScriptedRegistryOptions } from '../../registry/scripted-registry.ts';

/** A scriptable registry that holds a generated image as `app:latest`. */
export async function startDemoRegistry(
  options: ScriptedRegistryOptions & { readonly scale?: number } = {},
): Promise<ScriptedRegistry & { readonly image: DemoImage }> {
  const { scale, ...registryOptions } = options;
  const image = await generateDemoImage({ seed: DEMO_SEED, ...(scale === undefined ? {} : { scale }) });
  const registry = await ScriptedRegistry.start(registryOptions);
  await registry.addImage('app', image);
  return Object.assign(registry, { image });
}
