package source

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"
)

// gsPlace reads buckets of Google Cloud Storage through its JSON API. The identity of an object is its generation, which a
// request may name, so that what is downloaded is what was listed.
type gsPlace struct {
	r *Reader

	mu     sync.Mutex
	client *http.Client
	public *http.Client // without credentials
	none   error        // why client has no credentials
}

// gsHost is where the API is.
const gsHost = "https://storage.googleapis.com"

// gsScope allows to read objects and nothing else.
const gsScope = "https://www.googleapis.com/auth/devstorage.read_only"

// maxGSAnswer bounds a page of a list in bytes.
const maxGSAnswer = 64 << 20

// gsObject is an object in the API's words.
type gsObject struct {
	Name       string `json:"name"`
	Size       string `json:"size"`
	Generation string `json:"generation"`
	MD5        string `json:"md5Hash"`
}

func (o gsObject) object() (object, error) {
	size, err := strconv.ParseInt(o.Size, 10, 64)
	if err != nil || size < 0 {
		return object{}, fmt.Errorf("%s has a size of %q", o.Name, o.Size)
	}
	sum, err := base64.StdEncoding.DecodeString(o.MD5)
	if err != nil {
		return object{}, fmt.Errorf("%s has an MD5 of %q", o.Name, o.MD5)
	}
	return object{Key: o.Name, ID: o.Generation, Size: size, md5: hex.EncodeToString(sum)}, nil
}

// connect returns the client for an address.
func (p *gsPlace) connect(ctx context.Context, a address) (*http.Client, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.public == nil {
		p.public = &http.Client{Transport: p.r.transport(nil)}
	}
	if a.query.Get("anonymous") != "" || os.Getenv("STORAGE_EMULATOR_HOST") != "" {
		return p.public, nil
	}
	if p.client != nil {
		return p.client, nil
	}
	// Tokens are fetched through the same transport.
	ctx = context.WithValue(context.WithoutCancel(ctx), oauth2.HTTPClient, p.public)
	found, err := google.FindDefaultCredentials(ctx, gsScope)
	switch {
	case err != nil && os.Getenv("GOOGLE_APPLICATION_CREDENTIALS") != "":
		return nil, kinded{ErrDenied, fmt.Errorf("get credentials for Google Cloud Storage: %w; check GOOGLE_APPLICATION_CREDENTIALS", err)}
	case err != nil:
		p.client, p.none = p.public, err
	default:
		p.client = oauth2.NewClient(ctx, found.TokenSource)
	}
	return p.client, nil
}

// base is the address of the API. Only the environment may set another, for requests carry tokens.
func (p *gsPlace) base() string {
	e := os.Getenv("STORAGE_EMULATOR_HOST")
	switch {
	case e == "":
		return gsHost
	case strings.Contains(e, "://"):
		return strings.TrimSuffix(e, "/")
	}
	return "http://" + e
}

// do makes a request below the bucket's objects. The body of a good answer is the caller's.
func (p *gsPlace) do(ctx context.Context, a address, name string, query url.Values, header map[string]string) (*http.Response, error) {
	client, err := p.connect(ctx, a)
	if err != nil {
		return nil, err
	}
	at := p.base() + "/storage/v1/b/" + url.PathEscape(a.host) + "/o"
	if name != "" {
		at += "/" + url.PathEscape(name)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at+"?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "continuo")
	// What is stored packed comes as it is stored, which is what size and MD5 are of.
	req.Header.Set("Accept-Encoding", "gzip")
	for k, v := range header {
		req.Header.Set(k, v)
	}
	resp, err := client.Do(req)
	if err != nil {
		var via *url.Error
		var refused *oauth2.RetrieveError
		switch {
		case errors.As(err, &refused):
			return nil, kinded{ErrDenied, fmt.Errorf("the credentials are refused by Google: %s; log in again (gcloud auth application-default login)", cmp.Or(refused.ErrorDescription, refused.ErrorCode, refused.Response.Status))}
		case errors.As(err, &via):
			err = via.Err
		}
		return nil, err
	}
	if resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusPartialContent {
		return resp, nil
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	return nil, errors.Join(p.explain(a, name, resp, text), err, resp.Body.Close())
}

// explain says what an answer means.
func (p *gsPlace) explain(a address, name string, resp *http.Response, text []byte) error {
	var told struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	message := ""
	if json.Unmarshal(text, &told) == nil && told.Error.Message != "" {
		message = ": " + strings.TrimSuffix(told.Error.Message, ".")
	}
	e := &Error{Place: a.text, Err: fmt.Errorf("bucket %s: Google Cloud Storage answers %d%s", a.host, resp.StatusCode, message)}
	switch resp.StatusCode {
	case http.StatusNotFound:
		if name == "" {
			e.Err, e.Next = kinded{ErrNotFound, fmt.Errorf("there is no bucket %s", a.host)}, "check its name"
			break
		}
		e.Err, e.Next = kinded{ErrNotFound, fmt.Errorf("bucket %s has no such object", a.host)}, "check the key; a folder is named with a slash at its end"
	case http.StatusUnauthorized, http.StatusForbidden:
		e.Err, e.Next = kinded{ErrDenied, e.Err}, "the account needs the role Storage Object Viewer there"
		if p.none != nil {
			e.Next = "no credentials were found and the bucket is not public: set GOOGLE_APPLICATION_CREDENTIALS, or run gcloud auth application-default login"
		}
	case http.StatusPreconditionFailed, http.StatusRequestedRangeNotSatisfiable:
		return fmt.Errorf("%w: another version is there", ErrChanged)
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return &busyError{err: e.Err, after: retryAfter(resp.Header.Get("Retry-After"))}
	}
	return e
}

// ask makes a request and decodes its answer.
func (p *gsPlace) ask(ctx context.Context, a address, name string, query url.Values, into any) (err error) {
	ctx, dog := watch(ctx, p.r.opt.Stall)
	defer dog.end()
	resp, err := p.do(ctx, a, name, query, map[string]string{"Accept-Encoding": "identity"})
	if err != nil {
		return dog.blame(ctx, err)
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if err := json.NewDecoder(io.LimitReader(dog.reader(resp.Body), maxGSAnswer)).Decode(into); err != nil {
		return dog.blame(ctx, fmt.Errorf("read the answer: %w", err))
	}
	return nil
}

// list implements objects.
func (p *gsPlace) list(ctx context.Context, a address) (found []object, single bool, err error) {
	prefix := prefixOf(a)
	if !a.glob && a.key != "" && !strings.HasSuffix(a.key, "/") {
		o, err := p.head(ctx, a)
		if err == nil {
			return []object{o}, true, nil
		}
		if !errors.Is(err, ErrNotFound) || a.query.Get("version") != "" {
			return nil, false, err
		}
		if found, berr := p.below(ctx, a, a.key+"/"); berr != nil || len(found) > 0 {
			return found, false, berr
		}
		return nil, false, err
	}
	found, err = p.below(ctx, a, prefix)
	return found, false, err
}

func (p *gsPlace) head(ctx context.Context, a address) (object, error) {
	query := url.Values{"fields": {"name,size,generation,md5Hash"}}
	if g := a.query.Get("version"); g != "" {
		query.Set("generation", g)
	}
	var o gsObject
	if err := p.ask(ctx, a, a.key, query, &o); err != nil {
		return object{}, err
	}
	out, err := o.object()
	out.Path = a.name()
	return out, err
}

// below lists the objects whose names begin with prefix.
func (p *gsPlace) below(ctx context.Context, a address, prefix string) (found []object, err error) {
	query := url.Values{"prefix": {prefix}, "maxResults": {"1000"}, "fields": {"items(name,size,generation,md5Hash),nextPageToken"}}
	for {
		var page struct {
			Items []gsObject `json:"items"`
			Next  string     `json:"nextPageToken"`
		}
		if err := p.ask(ctx, a, "", query, &page); err != nil {
			return nil, err
		}
		for _, item := range page.Items {
			o, err := item.object()
			if err != nil {
				return nil, err
			}
			found = append(found, o)
		}
		if len(found) > 2*p.r.opt.MaxObjects {
			return nil, fmt.Errorf("it has more than %d objects; name fewer with a longer prefix", p.r.opt.MaxObjects)
		}
		if page.Next == "" {
			return found, nil
		}
		query.Set("pageToken", page.Next)
	}
}

// get implements objects.
func (p *gsPlace) get(ctx context.Context, a address, o object, at int64) (io.ReadCloser, int64, error) {
	header := map[string]string{}
	if at > 0 {
		header["Range"] = "bytes=" + strconv.FormatInt(at, 10) + "-"
	}
	resp, err := p.do(ctx, a, o.Key, url.Values{"alt": {"media"}, "generation": {o.ID}}, header)
	if errors.Is(err, ErrNotFound) {
		return nil, 0, fmt.Errorf("%w: its generation %s is gone", ErrChanged, o.ID)
	}
	if err != nil {
		return nil, 0, err
	}
	if resp.StatusCode != http.StatusPartialContent {
		return resp.Body, 0, nil
	}
	from, err := rangeStart(resp.Header.Get("Content-Range"))
	if err != nil {
		return nil, 0, errors.Join(err, resp.Body.Close())
	}
	return resp.Body, from, nil
}
