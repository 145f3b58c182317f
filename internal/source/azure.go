package source

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
)

// azurePlace reads containers of Azure Blob Storage.
type azurePlace struct {
	r *Reader

	mu      sync.Mutex
	clients map[string]*container.Client // by account, container and whether it is anonymous
}

// azureAccount is what an account can be called. It becomes a part of a host name, to which tokens are sent.
var azureAccount = regexp.MustCompile(`^[a-z0-9]{3,24}$`)

// client returns the client of an address's container. Credentials: a connection string, a shared key or a signature from the
// environment, or else what azidentity finds (AZURE_CLIENT_ID …, workload or managed identity, az login).
func (p *azurePlace) client(a address) (*container.Client, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := strings.Join([]string{a.host, a.query.Get("account"), a.query.Get("anonymous")}, "\x00")
	if c := p.clients[key]; c != nil {
		return c, nil
	}
	c, err := p.connect(a)
	if err != nil {
		return nil, err
	}
	if p.clients == nil {
		p.clients = map[string]*container.Client{}
	}
	p.clients[key] = c
	return c, nil
}

func (p *azurePlace) connect(a address) (*container.Client, error) {
	core := azcore.ClientOptions{
		// The attempts are made by us.
		Retry:     policy.RetryOptions{MaxRetries: -1},
		Transport: &http.Client{Transport: p.r.transport(nil)},
		Telemetry: policy.TelemetryOptions{ApplicationID: "continuo"},
	}
	opts := &container.ClientOptions{ClientOptions: core}
	asked := a.query.Get("account")
	if text := os.Getenv("AZURE_STORAGE_CONNECTION_STRING"); text != "" && asked == "" {
		c, err := container.NewClientFromConnectionString(text, a.host, opts)
		if err != nil {
			return nil, errors.New("AZURE_STORAGE_CONNECTION_STRING cannot be read; copy it from the account's access keys again") // the cause would hold the key
		}
		return c, nil
	}
	account := cmp.Or(asked, os.Getenv("AZURE_STORAGE_ACCOUNT"))
	if !azureAccount.MatchString(account) {
		return nil, &Error{Place: a.text, Err: fmt.Errorf("the storage account is %q", account), Next: "set AZURE_STORAGE_ACCOUNT, or write ?account=… behind the address"}
	}
	base := "https://" + account + ".blob.core.windows.net"
	// Only the environment may name another place, for requests carry tokens.
	if e := os.Getenv("AZURE_STORAGE_BLOB_ENDPOINT"); e != "" {
		base = strings.TrimSuffix(e, "/")
	}
	at := base + "/" + url.PathEscape(a.host)
	secret := ""
	if asked == "" || asked == os.Getenv("AZURE_STORAGE_ACCOUNT") {
		secret = os.Getenv("AZURE_STORAGE_KEY")
	}
	switch sas := os.Getenv("AZURE_STORAGE_SAS_TOKEN"); {
	case a.query.Get("anonymous") != "":
		return container.NewClientWithNoCredential(at, opts)
	case secret != "":
		shared, err := azblob.NewSharedKeyCredential(account, secret)
		if err != nil {
			return nil, errors.New("AZURE_STORAGE_KEY is no key; copy it from the account's access keys again")
		}
		return container.NewClientWithSharedKeyCredential(at, shared, opts)
	case sas != "":
		return container.NewClientWithNoCredential(at+"?"+strings.TrimPrefix(sas, "?"), opts)
	}
	found, err := azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{ClientOptions: core})
	if err != nil {
		return nil, kinded{ErrDenied, fmt.Errorf("get credentials for Azure: %w; run az login, or set AZURE_STORAGE_KEY", err)}
	}
	return container.NewClient(at, found, opts)
}

// list implements objects.
func (p *azurePlace) list(ctx context.Context, a address) (found []object, single bool, err error) {
	ctx, dog := watch(ctx, p.r.opt.Stall)
	defer dog.end()
	c, err := p.client(a)
	if err != nil {
		return nil, false, err
	}
	if !a.glob && a.key != "" && !strings.HasSuffix(a.key, "/") {
		o, err := p.head(ctx, c, a)
		if err == nil {
			return []object{o}, true, nil
		}
		if !errors.Is(err, ErrNotFound) || a.query.Get("version") != "" {
			return nil, false, dog.blame(ctx, err)
		}
		if found, berr := p.below(ctx, dog, c, a, a.key+"/"); berr != nil || len(found) > 0 {
			return found, false, berr
		}
		return nil, false, err
	}
	found, err = p.below(ctx, dog, c, a, prefixOf(a))
	return found, false, err
}

// version returns the client of one object, in the version that the address names.
func (p *azurePlace) version(c *container.Client, a address, name string) (*blob.Client, error) {
	b := c.NewBlobClient(name)
	if v := a.query.Get("version"); v != "" {
		return b.WithVersionID(v)
	}
	return b, nil
}

func (p *azurePlace) head(ctx context.Context, c *container.Client, a address) (object, error) {
	b, err := p.version(c, a, a.key)
	if err != nil {
		return object{}, err
	}
	out, err := b.GetProperties(ctx, nil)
	if err != nil {
		return object{}, explainAzure(a, err)
	}
	o := object{Path: a.name(), Key: a.key, Size: -1, md5: hex.EncodeToString(out.ContentMD5)}
	if out.ETag != nil {
		o.ID = string(*out.ETag)
	}
	if out.ContentLength != nil {
		o.Size = *out.ContentLength
	}
	return o, nil
}

// below lists the objects whose names begin with prefix.
func (p *azurePlace) below(ctx context.Context, dog *watchdog, c *container.Client, a address, prefix string) (found []object, err error) {
	pages := c.NewListBlobsFlatPager(&container.ListBlobsFlatOptions{Prefix: &prefix})
	for pages.More() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, dog.blame(ctx, explainAzure(a, err))
		}
		dog.timer.Reset(dog.stall)
		for _, item := range page.Segment.BlobItems {
			if item.Name == nil || item.Properties == nil {
				continue
			}
			o := object{Key: *item.Name, Size: -1, md5: hex.EncodeToString(item.Properties.ContentMD5)}
			if e := item.Properties.ETag; e != nil {
				// A list leaves out the quotes that headers have.
				o.ID = `"` + strings.Trim(string(*e), `"`) + `"`
			}
			if n := item.Properties.ContentLength; n != nil {
				o.Size = *n
			}
			found = append(found, o)
		}
		if len(found) > 2*p.r.opt.MaxObjects {
			return nil, fmt.Errorf("it has more than %d objects; name fewer with a longer prefix", p.r.opt.MaxObjects)
		}
	}
	return found, nil
}

// get implements objects.
func (p *azurePlace) get(ctx context.Context, a address, o object, at int64) (io.ReadCloser, int64, error) {
	c, err := p.client(a)
	if err != nil {
		return nil, 0, err
	}
	b, err := p.version(c, a, o.Key)
	if err != nil {
		return nil, 0, err
	}
	opts := &blob.DownloadStreamOptions{Range: blob.HTTPRange{Offset: at}}
	if o.ID != "" {
		tag := azcore.ETag(o.ID)
		opts.AccessConditions = &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfMatch: &tag}}
	}
	out, err := b.DownloadStream(ctx, opts)
	if err != nil {
		return nil, 0, explainAzure(a, err)
	}
	return out.Body, at, nil
}

// explainAzure says what an answer means.
func explainAzure(a address, err error) error {
	var answer *azcore.ResponseError
	var login *azidentity.AuthenticationFailedError
	var via *url.Error
	switch {
	case errors.As(err, &login):
		return kinded{ErrDenied, fmt.Errorf("the credentials are refused by Azure: %w; run az login again, or set AZURE_STORAGE_KEY", err)}
	case strings.HasPrefix(err.Error(), "DefaultAzureCredential: "):
		return &Error{Place: a.text, Err: kinded{ErrDenied, errors.New("no credentials were found")}, Next: "run az login, set AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN, or write ?anonymous=true behind the address of a public container"}
	case !errors.As(err, &answer):
		if errors.As(err, &via) {
			return via.Err
		}
		return err
	}
	e := &Error{Place: a.text, Err: fmt.Errorf("container %s: Azure answers %d %s", a.host, answer.StatusCode, answer.ErrorCode)}
	switch answer.StatusCode {
	case http.StatusNotFound:
		if answer.ErrorCode == "ContainerNotFound" {
			e.Err, e.Next = kinded{ErrNotFound, fmt.Errorf("there is no container %s", a.host)}, "check its name, and the account (AZURE_STORAGE_ACCOUNT)"
			break
		}
		e.Err, e.Next = kinded{ErrNotFound, fmt.Errorf("container %s has no such object", a.host)}, "check the key; a folder is named with a slash at its end"
	case http.StatusUnauthorized, http.StatusForbidden:
		e.Err, e.Next = kinded{ErrDenied, e.Err}, "check AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN; an account from az login needs the role Storage Blob Data Reader there"
	case http.StatusPreconditionFailed, http.StatusRequestedRangeNotSatisfiable:
		return fmt.Errorf("%w: another version is there", ErrChanged)
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		busy := &busyError{err: e.Err}
		if answer.RawResponse != nil {
			busy.after = retryAfter(answer.RawResponse.Header.Get("Retry-After"))
		}
		return busy
	}
	return e
}
