//go:build e2e && linux

package gitops

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// browser is one tab of a real Chromium, and what went wrong in it.
type browser struct {
	t    *testing.T
	ctx  context.Context
	base string

	mu       sync.Mutex
	problems []string // errors of scripts, of the console and of the content security policy
	strays   []string // requests to anywhere else
}

// look is how a page is looked at.
type look struct {
	width  int64
	scheme string // light or dark
}

// newBrowser starts a Chromium that ends with the test.
func newBrowser(t *testing.T, base string) *browser {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		if os.Getenv("CI") != "" {
			t.Fatal("there is no Chromium: apt-get install chromium")
		}
		t.Skip("there is no Chromium: apt-get install chromium")
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.Flag("disable-background-networking", true))
	if os.Geteuid() == 0 {
		opts = append(opts, chromedp.NoSandbox)
	}
	actx, cancel := chromedp.NewExecAllocator(context.Background(), opts...)
	t.Cleanup(cancel)
	ctx, cancelTab := chromedp.NewContext(actx)
	t.Cleanup(cancelTab)
	b := &browser{t: t, ctx: ctx, base: base}
	ok(t, chromedp.Do(ctx))
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil {
			t.Errorf("end the browser: %v", err)
		}
	})
	ok(t, chromedp.Listen(ctx, b.hear))
	call(b, cdplog.Enable, cdp.Empty{})
	call(b, network.Enable, network.EnableParams{})
	return b
}

func call[P, R any](b *browser, cmd cdp.Command[P, R], params P) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	if _, err := chromedp.Call(ctx, cmd, params); err != nil {
		b.t.Fatal(err)
	}
}

func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.t.Fatal(err)
	}
}

// hear keeps what a page must not do.
func (b *browser) hear(ev any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := ev.(type) {
	case *cdplog.EventEntryAdded:
		if e.Entry.Level == cdplog.EntryLevelError || e.Entry.Level == cdplog.EntryLevelWarning {
			b.problems = append(b.problems, e.Entry.Text+" "+e.Entry.URL)
		}
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
			b.problems = append(b.problems, fmt.Sprintf("console: %+v", e.Args))
		}
	case *runtime.EventExceptionThrown:
		b.problems = append(b.problems, fmt.Sprintf("exception: %+v", e.ExceptionDetails))
	case *network.EventRequestWillBeSent:
		if u := e.Request.URL; !strings.HasPrefix(u, b.base) && !strings.HasPrefix(u, "data:") {
			b.strays = append(b.strays, u)
		}
	}
}

// clean errors on what went wrong since the last call.
func (b *browser) clean(where string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.problems {
		b.t.Errorf("%s: %s", where, p)
	}
	for _, s := range b.strays {
		b.t.Errorf("%s asks another origin: %s", where, s)
	}
	b.problems, b.strays = nil, nil
}

// as sets how pages are looked at from now on.
func (b *browser) as(l look) {
	b.t.Helper()
	call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: l.width, Height: 900, DeviceScaleFactor: 1, Mobile: l.width < 600})
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: l.scheme}}})
}

// scripts turns JavaScript on or off.
func (b *browser) scripts(on bool) {
	b.t.Helper()
	call(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !on})
}

func (b *browser) open(path string) {
	b.t.Helper()
	b.do(chromedp.Navigate(b.base + path))
}

// eval gives what an expression is in the page.
func eval[T any](b *browser, js string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](js))
	if err != nil {
		b.t.Fatalf("%v: %s", err, js)
	}
	return v
}

// until waits for an expression to be true.
func (b *browser) until(what, js string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !eval[bool](b, js) {
		select {
		case <-ctx.Done():
			b.t.Fatalf("%s: never so; the page says\n%s", what, eval[string](b, "document.body.innerText"))
		case <-tick.C:
		}
	}
}

// drawn waits until the page's charts are drawn, and gives how many there are.
func (b *browser) drawn() int {
	b.t.Helper()
	b.until("charts are drawn", `[...document.querySelectorAll("[data-charts]")].every((e) => e.dataset.drawn !== undefined)`)
	return eval[int](b, `document.querySelectorAll(".uplot canvas").length`)
}

// blank are the charts that hold no ink beyond their grid: no pixel in the colour of a line.
const blank = `[...document.querySelectorAll(".uplot canvas")].filter((c) => {
  const d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
  let ink = 0;
  for (let i = 0; i < d.length; i += 4) if (d[i + 3] > 200 && Math.max(d[i], d[i + 1], d[i + 2]) - Math.min(d[i], d[i + 1], d[i + 2]) > 60) ink++;
  return ink < 20;
}).length`

// faint are the texts of the page whose contrast with what lies behind them is less than 4.5 to 1, as WCAG 2.2 computes it.
const faint = `(() => {
  const rgba = (text) => { const n = (text.match(/[\d.]+/g) || []).map(Number); return n.length < 3 ? null : [n[0], n[1], n[2], n.length > 3 ? n[3] : 1]; };
  const light = (c) => { const f = c.slice(0, 3).map((v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * f[0] + 0.7152 * f[1] + 0.0722 * f[2]; };
  const behind = (e) => {
    const box = e.closest && e.closest("a.box");
    if (box) return rgba(getComputedStyle(box.querySelector("rect")).fill);
    for (; e; e = e.parentElement) {
      const c = rgba(getComputedStyle(e).backgroundColor);
      if (c && c[3] === 1) return c;
    }
    return [255, 255, 255, 1];
  };
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const text = walk.currentNode.textContent.trim(), e = walk.currentNode.parentElement;
    if (!text || !e.getClientRects().length || e.closest("script, noscript, title, .skip")) continue;
    const style = getComputedStyle(e);
    const ink = rgba(e.namespaceURI.endsWith("svg") ? style.fill : style.color);
    const a = light(ink), b = light(behind(e));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (!(ratio >= 4.5)) found.push(text.slice(0, 40) + " " + ratio.toFixed(2));
  }
  // What is drawn on canvases has these.
  const root = getComputedStyle(document.documentElement);
  const probe = document.createElement("i");
  document.body.append(probe);
  const named = (n) => { probe.style.color = root.getPropertyValue(n); return light(rgba(getComputedStyle(probe).color)); };
  const dim = named("--dim"), card = named("--card");
  if ((Math.max(dim, card) + 0.05) / (Math.min(dim, card) + 0.05) < 4.5) found.push("axes");
  probe.remove();
  return found;
})()`

// wide says whether the page itself has to be scrolled sideways.
const wide = `document.documentElement.scrollWidth > document.documentElement.clientWidth`

// focused describes what has the keyboard.
const focused = `(() => { const e = document.activeElement; return (e.tagName + " " + (e.textContent || "").trim().slice(0, 40)).trim(); })()`

func (w *desk) json(path string, into any) {
	w.t.Helper()
	text := w.get(path)
	if err := json.Unmarshal([]byte(text), into); err != nil {
		w.t.Fatalf("%s: %v: %.300s", path, err, text)
	}
}
