// Models of a person's own: folders that were dropped or picked, and addresses.

import { benchArchs } from "../../shipped.ts";
import { checkpoint, type Subject } from "../../subject.ts";
import type { Folder } from "../folders.ts";

export interface Own {
  subject: Subject;
  /** null: the subject's folder is an address. */
  files: File[] | null;
  chosen: boolean;
  /** null: it is looked at; "": it is one of ours; else why not. */
  fault: string | null;
}

export class OwnModels {
  readonly all: Own[] = [];

  /** Those that are to race. */
  get chosen(): Own[] {
    return this.all.filter(({ chosen, fault }) => chosen && !fault);
  }

  fromFolder({ name, files }: Folder): Own {
    const own = this.#free(name);
    return this.#add(checkpoint(own, own), files);
  }

  /** null: the text is no address. */
  fromAddress(text: string): Own | null {
    if (!URL.canParse(text)) return null;
    const parts = new URL(text).pathname.split("/").filter((part) => !/^(|resolve|main)$/.test(part));
    return this.#add(checkpoint(parts.at(-1) ?? text, text), null);
  }

  /** What the loader says of one; null: it is one of ours. */
  checked(folder: string, fault: string | null): void {
    const own = this.all.find(({ subject }) => subject.folder === folder);
    if (own) own.fault = fault ?? "";
  }

  #add(subject: Subject, files: File[] | null): Own {
    const own: Own = { subject, files, chosen: true, fault: null };
    this.all.push(own);
    return own;
  }

  /** A folder may bear the name of a shipped model, or of another folder. */
  #free(name: string): string {
    const taken = (name: string) =>
      benchArchs.includes(name) || this.all.some(({ subject }) => subject.model === name);
    let own = taken(name) ? `${name} (yours)` : name;
    for (let n = 2; taken(own); n++) own = `${name} (yours, ${n})`;
    return own;
  }
}
