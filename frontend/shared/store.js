// What the browser remembers for the page; where it is not allowed to, it is kept until the page is left.

class Store {
  constructor(area) {
    this.area = area;
    this.here = new Map();
  }

  get(key) {
    try {
      return globalThis[this.area].getItem(key) ?? this.here.get(key) ?? null;
    } catch {
      return this.here.get(key) ?? null;
    }
  }

  set(key, value) {
    try {
      globalThis[this.area].setItem(key, value);
    } catch {
      this.here.set(key, value);
    }
  }
}

/** From visit to visit, and until the tab is closed. */
export const visits = new Store("localStorage"), tab = new Store("sessionStorage");
