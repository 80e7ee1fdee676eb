// Verdicts in the browser's IndexedDB, for pages and their workers.

import { createStore, get, type UseStore, update } from "idb-keyval";
import { merged, type StoreOptions, toConsole, type VerdictStore, verdictsIn } from "./verdicts.ts";

/**
 * Keeps verdicts in an IndexedDB database of the page's origin, `longtape` by default. Where the browser gives none (a
 * private window, site data turned off) nothing is kept.
 */
export function verdictDatabase(name = "longtape", { onFault = toConsole }: StoreOptions = {}): VerdictStore {
  let opened: UseStore | undefined;
  // opened at the first use: what is wrong with it is then heard
  const database = () => (opened ??= createStore(name, "verdicts"));
  const heard = async <T>(work: () => Promise<T>, otherwise: T): Promise<T> => {
    try {
      return await work();
    } catch (error) {
      onFault(`the verdicts kept in the database ${name} cannot be reached: ${(error as Error).message}`);
      return otherwise;
    }
  };
  return {
    read: (adapter) => heard(async () => verdictsIn(await get<unknown>(adapter, database())), []),
    // one transaction: tabs that write at once lose nothing
    write: (adapter, verdicts) =>
      heard(
        () => update<unknown>(adapter, (before) => merged(verdictsIn(before), verdicts), database()),
        undefined,
      ),
  };
}
