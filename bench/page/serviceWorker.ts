// Keeps a built page working without a network: its own files from the first visit on, checkpoints once they were read. What it
// gives away is cross-origin isolated, which a plain file server cannot say: clocks are finer then, and WebAssembly has threads.

/** What `npm run build` puts in: the page's files, and a hash of them. */
declare const FILES: readonly string[];
declare const VERSION: string;

/** A worker's scope, as far as it is used here: TypeScript's own description of it and that of a page exclude each other. */
interface Extendable extends Event {
  waitUntil(work: Promise<unknown>): void;
}
interface Fetching extends Extendable {
  readonly request: Request;
  respondWith(response: Promise<Response>): void;
}
const scope = globalThis as unknown as {
  registration: { scope: string };
  clients: { claim(): Promise<void> };
  skipWaiting(): Promise<void>;
  addEventListener<E extends Event>(type: string, listener: (event: E) => void): void;
};

const CACHE = `longtape ${VERSION}`;

scope.addEventListener<Extendable>("install", (event) => {
  const kept = caches.open(CACHE).then((cache) => cache.addAll([...FILES]));
  event.waitUntil(kept.then(() => scope.skipWaiting()));
});

scope.addEventListener<Extendable>("activate", (event) => {
  const emptied = caches.keys().then((names) => {
    const old = names.filter((name) => name.startsWith("longtape ") && name !== CACHE);
    return Promise.all(old.map((name) => caches.delete(name)));
  });
  event.waitUntil(emptied.then(() => scope.clients.claim()));
});

scope.addEventListener<Fetching>("fetch", (event) => {
  const { request } = event;
  const ours = request.method === "GET" && request.url.startsWith(scope.registration.scope);
  if (ours) event.respondWith(answer(request).then(isolated));
});

async function answer(request: Request): Promise<Response> {
  const cache = await caches.open(CACHE);
  const url = new URL(request.url);
  url.search = "";
  if (request.mode === "navigate") {
    // a newer page comes first, where there is one
    const fresh = await fetch(request).catch(() => null);
    return fresh ?? (await cache.match(scope.registration.scope)) ?? Response.error();
  }
  const kept = await cache.match(url);
  if (kept) return kept;
  if (!url.pathname.includes("/models/checkpoints/") && !url.pathname.includes("/assets/"))
    return fetch(request);
  // whole, whatever range is asked for: a reader of checkpoints takes that too
  const response = await fetch(url);
  if (response.status === 200) await cache.put(url, response.clone());
  return response;
}

function isolated(response: Response): Response {
  if (response.type === "error" || response.type === "opaqueredirect") return response;
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  const { status, statusText } = response;
  return new Response(status === 204 || status === 304 ? null : response.body, {
    status,
    statusText,
    headers,
  });
}
