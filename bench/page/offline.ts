// A built page works without a network once it was loaded: its service worker keeps what it needs.

declare global {
  /** Put there by `npm run build`: the service worker's file. */
  var LONGTAPE_OFFLINE: string | undefined;
}

export function offline(): void {
  const file = globalThis.LONGTAPE_OFFLINE;
  // a file:// page and an old browser have none
  if (file) navigator.serviceWorker?.register(file).catch(() => {});
}
