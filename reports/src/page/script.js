"use strict";
// Everything can be read without this: it adds filters, zoom, jumps and a quicker tooltip.
(() => {
  const tip = document.getElementById("tip");

  /** The words of a mark; its title is taken away, so that the browser does not show them again. */
  const words = (mark) => {
    const title = mark.querySelector(":scope > title");
    if (title) {
      mark.dataset.words = title.textContent;
      title.remove();
    }
    return mark.dataset.words || "";
  };

  const show = (event) => {
    const mark = event.target.closest && event.target.closest("svg.picture .m");
    if (!mark) {
      tip.hidden = true;
      return;
    }
    tip.textContent = words(mark);
    tip.hidden = false;
    const { clientWidth, clientHeight } = document.documentElement;
    const left = Math.min(event.clientX + 12, clientWidth - tip.offsetWidth - 8);
    const below = event.clientY + 16;
    const top = below + tip.offsetHeight > clientHeight ? event.clientY - tip.offsetHeight - 12 : below;
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${Math.max(8, top)}px`;
  };
  addEventListener("pointermove", show, { passive: true });
  addEventListener("pointerdown", show, { passive: true });
  addEventListener("scroll", () => { tip.hidden = true; }, { passive: true, capture: true });

  for (const timeline of document.querySelectorAll(".timeline")) {
    const scroll = timeline.querySelector(".scroll");
    const names = timeline.querySelector(".names");
    const picture = timeline.querySelector(".picture");
    const slider = timeline.querySelector(".zoom input");
    const flags = [...timeline.querySelectorAll(".flag")];
    const width = () => picture.getBoundingClientRect().width;

    /** Brings a place, as a share of the whole, to the middle of what is seen of the picture. */
    const look = (share) => {
      scroll.scrollLeft = share * width() - (scroll.clientWidth - names.offsetWidth) / 2;
    };

    const zoom = () => {
      const seen = (scroll.clientWidth - names.offsetWidth) / 2;
      const middle = (scroll.scrollLeft + seen) / width();
      picture.setAttribute("width", Math.round(picture.dataset.width * 2 ** (slider.value / 10)));
      look(middle);
    };
    slider.addEventListener("input", zoom);

    for (const box of timeline.querySelectorAll("[data-hide]")) {
      const hide = () => picture.classList.toggle(`no-${box.dataset.hide}`, !box.checked);
      box.addEventListener("change", hide);
      hide();
    }

    // The name of what began further to the left moves along with the edge of what is seen.
    const labels = [...picture.querySelectorAll(".m > svg > text")];
    const marks = labels.map((label) => label.closest(".m").querySelector("rect"));
    let asked = false;
    const follow = () => {
      asked = false;
      const edge = names.getBoundingClientRect().right;
      const places = marks.map((mark) => edge - mark.getBoundingClientRect().left);
      labels.forEach((label, index) => label.setAttribute("x", Math.max(3, places[index] + 3)));
    };
    scroll.addEventListener("scroll", () => {
      if (!asked) {
        asked = true;
        requestAnimationFrame(follow);
      }
    }, { passive: true });

    const visit = (flag) => {
      flags.forEach((other) => other.classList.toggle("here", other === flag));
      if (slider.value < 15) {
        slider.value = 15;
        zoom();
      }
      look(flag.dataset.at / 100);
    };
    const first = () => flags.findIndex((flag) => flag.id);
    const jump = timeline.querySelector(".jump");
    if (jump) {
      jump.addEventListener("click", (event) => {
        event.preventDefault();
        visit(flags[Math.max(0, first())]);
      });
    }
    const next = timeline.querySelector(".next");
    if (next) {
      next.addEventListener("click", () => {
        const at = flags.findIndex((flag) => flag.classList.contains("here"));
        visit(flags[(at + 1) % flags.length]);
      });
    }
  }

  /** A link to a trial opens it. */
  const open = () => {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    const details = target && target.closest("details");
    if (details) {
      details.open = true;
      details.scrollIntoView();
    }
  };
  addEventListener("hashchange", open);
  open();
  addEventListener("beforeprint", () => {
    document.querySelectorAll("details").forEach((details) => { details.open = true; });
  });
})();
