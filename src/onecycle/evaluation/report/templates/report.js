"use strict";
/* The interactive parts: sorting, filters, pictures behind numbers, thresholds, and the table of new labels.
   Names and labels come from the payload and reach the page as text only (textContent, value), never as markup. */
(() => {
  const root = document.documentElement;
  root.classList.add("has-js");
  const data = JSON.parse(document.getElementById("payload").textContent);
  const n = data.names.length;
  const c = data.classes.length;
  const byId = (id) => document.getElementById(id);
  const all = (selector, within = document) => Array.from(within.querySelectorAll(selector));

  const make = (tag, text, name) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (name) made.className = name;
    return made;
  };

  const bytesOf = (text) => Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));

  /* ---- truth and predictions -------------------------------------------------------------------------- */

  const truth = data.multi ? bytesOf(data.truth) : null;
  const ranks = data.ranks ? bytesOf(data.ranks) : null;
  const predictedBits = data.multi && !ranks ? bytesOf(data.predicted) : null;
  const places = ranks ? data.inUse.slice() : [];

  const hasBit = (bytes, at) => ((bytes[at >> 3] >> (7 - (at & 7))) & 1) === 1;
  const isTrue = (i, k) => (data.multi ? hasBit(truth, i * c + k) : data.truth[i] === k);
  /* A tag is predicted where its probability reaches its threshold: where more thresholds are reached than lie below. */
  const isPredictedAt = (i, k, at) => ranks[i * c + k] > at[k];
  const isPredicted = (i, k) => {
    if (ranks) return isPredictedAt(i, k, data.inUse);
    return predictedBits ? hasBit(predictedBits, i * c + k) : data.predicted[i] === k;
  };

  /* ---- pictures behind numbers ------------------------------------------------------------------------ */

  const gallery = byId("gallery");
  const MOST = 60;

  const describe = (i) => {
    if (!data.multi) {
      const sure = " (" + data.probs[i].toFixed(2) + ")";
      return ["truth: " + data.classes[data.truth[i]], "says: " + data.classes[data.predicted[i]] + sure];
    }
    const named = (test) => data.classes.filter((_, k) => test(i, k)).join(", ");
    const lines = [["truth", named(isTrue)], ["wrong", named(KINDS.fp[1])], ["missed", named(KINDS.fn[1])]];
    return lines.filter(([, names]) => names).map(([word, names]) => word + ": " + names);
  };

  const thumb = (i) => {
    const figure = make("figure");
    const src = data.thumbs[String(i)];
    if (src) {
      const picture = make("img");
      picture.alt = "Picture " + data.names[i];
      picture.src = src;
      figure.append(picture);
    } else {
      figure.append(make("div", "Not in this page.", "gone"));
    }
    const caption = make("figcaption");
    const name = make("bdi", data.names[i]);
    caption.append(name);
    describe(i).forEach((line) => caption.append(make("br"), make("span", line)));
    figure.append(caption);
    figure.dataset.index = String(i);
    return figure;
  };

  const openGallery = (title, indices) => {
    byId("gallery-title").textContent = title;
    const shown = indices.slice(0, MOST);
    byId("gallery-note").textContent =
      indices.length > MOST ? "The first " + MOST + " of " + indices.length + " pictures." :
        indices.length + (indices.length === 1 ? " picture." : " pictures.");
    byId("gallery-pictures").replaceChildren(...shown.map(thumb));
    gallery.showModal();
    gallery.scrollTop = 0;
  };

  byId("gallery-close").addEventListener("click", () => gallery.close());
  gallery.addEventListener("click", (event) => { if (event.target === gallery) gallery.close(); });

  const pictures = (wanted) => Array.from({ length: n }, (_, i) => i).filter(wanted);

  const asButton = (cell, label, action) => {
    const button = make("button", cell.textContent.trim());
    button.type = "button";
    button.setAttribute("aria-label", label);
    button.addEventListener("click", action);
    cell.replaceChildren(button);
  };

  const KINDS = {
    tp: ["right", (i, k) => isTrue(i, k) && isPredicted(i, k)],
    fp: ["wrongly predicted", (i, k) => !isTrue(i, k) && isPredicted(i, k)],
    fn: ["missed", (i, k) => isTrue(i, k) && !isPredicted(i, k)],
  };

  all("td[data-cell]").forEach((cell) => {
    if (cell.textContent.trim() === "0") return;
    const k = Number(cell.dataset.class);
    const [word, test] = KINDS[cell.dataset.cell];
    const title = data.classes[k] + ": " + word;
    asButton(cell, cell.textContent.trim() + " pictures, " + title, () =>
      openGallery(title, pictures((i) => test(i, k))));
  });

  all("td[data-actual]").forEach((cell) => {
    const actual = Number(cell.dataset.actual);
    const predicted = Number(cell.dataset.predicted);
    const title = data.classes[actual] + (actual === predicted ? ", recognised" : " taken for " + data.classes[predicted]);
    asButton(cell, cell.textContent.trim() + " pictures: " + title, () =>
      openGallery(title, pictures((i) => data.truth[i] === actual && data.predicted[i] === predicted)));
  });

  all("td[data-missed]").forEach((cell) => {
    const missed = Number(cell.dataset.missed);
    const instead = Number(cell.dataset.instead);
    const title = data.classes[missed] + " missed, " + data.classes[instead] + " predicted instead";
    asButton(cell, cell.textContent.trim() + " pictures: " + title, () =>
      openGallery(title, pictures((i) => KINDS.fn[1](i, missed) && KINDS.fp[1](i, instead))));
  });

  /* ---- tables that sort, and a filter ------------------------------------------------------------------ */

  const sortBy = (table, column, kind, header) => {
    const body = table.tBodies[0];
    const falling = header.getAttribute("aria-sort") === (kind === "text" ? "ascending" : null) ||
      (kind !== "text" && header.getAttribute("aria-sort") !== "descending");
    const sign = falling ? -1 : 1;
    const key = (row) => row.cells[column].dataset.key;
    const rows = Array.from(body.rows);
    rows.sort((a, b) => sign * (kind === "text" ? key(a).localeCompare(key(b)) : Number(key(a)) - Number(key(b))));
    all("th[aria-sort]", table).forEach((th) => th.setAttribute("aria-sort", "none"));
    header.setAttribute("aria-sort", falling ? "descending" : "ascending");
    body.append(...rows);
  };

  all("table.sortable").forEach((table) => {
    all("th[data-sort]", table).forEach((header) => {
      const button = make("button", header.textContent, "sort");
      button.type = "button";
      header.replaceChildren(button);
      header.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => sortBy(table, header.cellIndex, header.dataset.sort, header));
    });
  });

  const filter = byId("class-filter");
  if (filter) {
    filter.addEventListener("input", () => {
      const wanted = filter.value.toLowerCase();
      const rows = Array.from(byId("class-table").tBodies[0].rows);
      rows.forEach((row) => { row.hidden = !row.cells[0].dataset.key.toLowerCase().includes(wanted); });
      byId("class-count").textContent = rows.filter((row) => !row.hidden).length + " of " + rows.length;
    });
  }

  /* ---- thresholds ---------------------------------------------------------------------------------------- */

  const STEPS = 200;
  const valueAt = (k, place) => {
    const extra = data.extra[k];
    if (!extra || place < extra[0]) return place / STEPS;
    return place === extra[0] ? extra[1] : (place - 1) / STEPS;
  };
  const placeOf = (k, step) => step + (data.extra[k] && step >= data.extra[k][0] ? 1 : 0);
  const weight = data.beta * data.beta; // of a missed tag against a wrong one, in F
  const share = (part, whole) => (whole > 0 ? part / whole : NaN);
  const text = (value, digits) => (Number.isNaN(value) ? "–" : value.toFixed(digits));

  const tagCounts = (k) => {
    let tp = 0, fp = 0, fn = 0;
    for (let i = 0; i < n; i += 1) {
      const predicted = isPredictedAt(i, k, places);
      if (isTrue(i, k)) { if (predicted) tp += 1; else fn += 1; } else if (predicted) fp += 1;
    }
    return [tp, fp, fn];
  };

  const overall = () => {
    let tp = 0, fp = 0, fn = 0, sum = 0;
    for (let i = 0; i < n; i += 1) {
      let hits = 0, predicted = 0, wanted = 0;
      for (let k = 0; k < c; k += 1) {
        const said = isPredictedAt(i, k, places), real = isTrue(i, k);
        if (said) predicted += 1;
        if (real) wanted += 1;
        if (said && real) hits += 1;
      }
      tp += hits; fp += predicted - hits; fn += wanted - hits;
      if (predicted + weight * wanted > 0) sum += ((1 + weight) * hits) / (predicted + weight * wanted);
    }
    return { f: sum / n, precision: share(tp, tp + fp), recall: share(tp, tp + fn) };
  };

  const setNumber = (cell, value, digits) => {
    cell.textContent = text(value, digits);
    cell.dataset.value = String(value);
  };

  const startSliders = () => {
    const rows = all("tr[data-tag]");
    const box = byId("threshold-text");

    const showTag = (row) => {
      const k = Number(row.dataset.tag);
      const [tp, fp, fn] = tagCounts(k);
      const value = valueAt(k, places[k]);
      const slider = row.querySelector("input");
      if (slider) {
        slider.value = String(places[k]);
        slider.setAttribute("aria-valuetext", value.toFixed(3));
      }
      setNumber(row.querySelector(".at"), slider ? value : NaN, 3);
      setNumber(row.querySelector(".precision"), share(tp, tp + fp), 3);
      setNumber(row.querySelector(".recall"), share(tp, tp + fn), 3);
      setNumber(row.querySelector(".f"), share((1 + weight) * tp, (1 + weight) * tp + weight * fn + fp), 3);
    };
    const showTotals = () => {
      const totals = overall();
      setNumber(byId("total-f"), totals.f, 4);
      setNumber(byId("total-precision"), totals.precision, 4);
      setNumber(byId("total-recall"), totals.recall, 4);
      const values = places.map((place, k) => Number(valueAt(k, place).toFixed(6)));
      const raw = box.dataset.raw ? ", raw=True" : "";
      box.value = "thresholds = [" + values.join(", ") + "]\nlearn.predict(picture, thresh=thresholds" + raw + ")" +
        (data.fixed.length ? "  # without the groups of which exactly one tag is predicted" : "");
    };
    const showAll = () => { rows.forEach(showTag); showTotals(); };

    rows.forEach((row) => {
      const slider = row.querySelector("input");
      if (!slider) return;
      slider.addEventListener("input", () => {
        places[Number(row.dataset.tag)] = Number(slider.value);
        showTag(row);
        showTotals();
      });
    });
    const common = byId("slider-all");
    const commonValue = byId("slider-all-value");
    common.addEventListener("input", () => {
      for (let k = 0; k < c; k += 1) {
        if (!data.fixed.includes(k)) places[k] = placeOf(k, Number(common.value));
      }
      commonValue.textContent = (Number(common.value) / STEPS).toFixed(3);
      common.setAttribute("aria-valuetext", commonValue.textContent);
      showAll();
    });
    byId("slider-reset").addEventListener("click", () => {
      data.inUse.forEach((place, k) => { places[k] = place; });
      commonValue.textContent = "";
      showAll();
    });
    byId("threshold-copy").addEventListener("click", async () => {
      const done = byId("threshold-copied");
      box.focus();
      box.select();
      try {
        await navigator.clipboard.writeText(box.value);
        done.textContent = "Copied.";
      } catch (_) {
        done.textContent = "Selected; press Ctrl or ⌘ and C.";
      }
    });
    const steps = data.inUse.map((place, k) => Math.round(valueAt(k, place) * STEPS));
    if (new Set(steps).size === 1) {
      common.value = String(steps[0]);
      commonValue.textContent = (steps[0] / STEPS).toFixed(3);
    }
    showAll();
  };
  if (ranks) startSliders();

  /* ---- new labels ----------------------------------------------------------------------------------------- */

  const cellOf = (value) => (/[",\r\n]|^\s|\s$/.test(value) ? '"' + value.replaceAll('"', '""') + '"' : value);

  const decided = (card) => {
    const other = card.querySelector(".other");
    if (other && other.value.trim()) return other.value.trim();
    const chosen = card.querySelector("input[type=radio]:checked");
    return chosen ? chosen.value : "";
  };

  const startLabels = (form) => {
    const cards = all("fieldset", form);
    const count = byId("relabel-count");
    const row = (card) => {
      const cells = {
        file: card.dataset.file, tag: card.dataset.tag, given: card.dataset.given,
        suggested: card.dataset.suggested, score: card.dataset.score, new_label: decided(card),
      };
      return data.columns.map((name) => cellOf(cells[name])).join(",");
    };
    const unknown = (card) => {
      const other = card.querySelector(".other");
      return other && other.value.trim() && !data.classes.includes(other.value.trim());
    };
    const tell = () => {
      const done = cards.filter(decided).length;
      count.textContent = done ? done + " of " + cards.length + " decided." : "Nothing decided yet.";
    };
    form.addEventListener("input", (event) => {
      const field = event.target;
      if (field.classList.contains("other")) {
        const strange = field.value.trim() && !data.classes.includes(field.value.trim());
        field.setCustomValidity(strange ? "Nothing here has this name; a new label needs a new table of labels." : "");
        field.setAttribute("aria-invalid", strange ? "true" : "false");
      } else if (field.type === "radio") {
        const other = field.closest("fieldset").querySelector(".other");
        if (other) { other.value = ""; other.setCustomValidity(""); }
      }
      tell();
    });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const done = cards.filter((card) => decided(card) && !unknown(card));
      if (!done.length) { count.textContent = "Nothing decided yet, so there is nothing to collect."; return; }
      const table = [data.columns.join(","), ...done.map(row)].join("\n") + "\n";
      const link = make("a");
      link.href = URL.createObjectURL(new Blob([table], { type: "text/csv" }));
      link.download = "relabel.csv";
      document.body.append(link);
      link.click();
      link.remove();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
      count.textContent = done.length + (done.length === 1 ? " label" : " labels") + " collected into relabel.csv.";
    });
  };
  if (byId("relabel")) startLabels(byId("relabel"));

  /* ---- print ------------------------------------------------------------------------------------------------ */

  let closed = [];
  window.addEventListener("beforeprint", () => {
    closed = all("details:not([open])");
    closed.forEach((part) => { part.open = true; });
  });
  window.addEventListener("afterprint", () => closed.forEach((part) => { part.open = false; }));
})();
