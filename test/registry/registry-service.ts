import { startControlServer } from './control-server.ts';
import { type DemoImage, type DemoImageOptions, generateDemoImage } from '../../src/demo/demo-image.ts';
import { ScriptedRegistry, type ScriptedRegistryOptions } from './scripted-registry.ts';

/** Can be written as JSON. */
export interface RegistryServiceOptions extends Omit<ScriptedRegistryOptions, 'clock'> {
  /** What to serve, in the repository `app` when none is given; an empty registry without. */
  readonly image?: DemoImageOptions & { readonly repository?: string };
}

/** Answer of `GET /_control/image`: the image without its bytes. */
export interface ServedImage extends Omit<DemoImage, 'blobs' | 'manifests'> {
  readonly repository: string;
}

/** A demo registry with a remote control, for a process of its own. */
export interface RegistryService extends AsyncDisposable {
  /** `http://host:port` of the registry. */
  readonly url: string;
  /** See {@link startControlServer}. */
  readonly controlUrl: string;
}

export async function startRegistryService(options: RegistryServiceOptions): Promise<RegistryService> {
  await using starting = new AsyncDisposableStack();
  const { image: imageOptions, ...registryOptions } = options;
  const registry = starting.use(await ScriptedRegistry.start(registryOptions));
  const image = imageOptions === undefined ? null : await serveImage(registry, imageOptions);
  const control = starting.use(await startControlServer(registry, image));
  const owned = starting.move();
  return {
    url: registry.url,
    controlUrl: control.url,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function serveImage(
  registry: ScriptedRegistry,
  { repository = 'app', ...options }: DemoImageOptions & { readonly repository?: string },
): Promise<ServedImage> {
  const image = await generateDemoImage(options);
  await registry.addImage(repository, image);
  const { blobs: _blobs, manifests: _manifests, ...description } = image;
  return { repository, ...description };
}
