package source

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// s3Place reads buckets of S3 and of servers that speak its protocol.
type s3Place struct {
	r *Reader

	mu      sync.Mutex
	clients map[string]*s3Client // by endpoint, region and bucket
}

// s3Client speaks to one bucket.
type s3Client struct {
	*s3.Client
	region, endpoint string
	anonymous        bool  // requests are not signed
	unsigned         error // why, when nobody asked for that
}

// client returns the client of an address's bucket, in region if that is not "".
func (p *s3Place) client(ctx context.Context, a address, region string) (*s3Client, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := strings.Join([]string{a.host, a.query.Get("endpoint"), a.query.Get("region"), a.query.Get("anonymous")}, "\x00")
	if c := p.clients[key]; c != nil && (region == "" || c.region == region) {
		return c, nil
	}
	c, err := p.connect(ctx, a, cmp.Or(region, a.query.Get("region")))
	if err != nil {
		return nil, err
	}
	if p.clients == nil {
		p.clients = map[string]*s3Client{}
	}
	p.clients[key] = c
	return c, nil
}

func (p *s3Place) connect(ctx context.Context, a address, region string) (*s3Client, error) {
	opt := p.r.opt
	load := []func(*config.LoadOptions) error{
		config.WithHTTPClient(p.httpClient()),
		config.WithLogger(logging.Nop{}),
		config.WithRetryer(func() aws.Retryer {
			// Two, for the second time corrects the clock; attempts are made by us, and must not multiply.
			return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts, o.MaxBackoff = 2, opt.Wait })
		}),
	}
	if region != "" {
		load = append(load, config.WithRegion(region))
	}
	cfg, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, fmt.Errorf("read the configuration of AWS: %w; check AWS_PROFILE and ~/.aws/config", err)
	}
	c := &s3Client{anonymous: a.query.Get("anonymous") == "true"}
	if !c.anonymous {
		if _, err := cfg.Credentials.Retrieve(ctx); err != nil {
			if configured() || ctx.Err() != nil {
				return nil, kinded{ErrDenied, fmt.Errorf("get credentials for S3: %w; set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or log in again (aws sso login)", err)}
			}
			c.anonymous, c.unsigned = true, err
		}
	}
	if c.anonymous {
		cfg.Credentials = aws.AnonymousCredentials{}
	}
	cfg.Region = cmp.Or(cfg.Region, "us-east-1")
	c.Client = s3.NewFromConfig(cfg, func(o *s3.Options) {
		if e := a.query.Get("endpoint"); e != "" {
			o.BaseEndpoint = &e
		}
		// Other servers than AWS's seldom have a host name for each bucket.
		if o.BaseEndpoint != nil {
			o.UsePathStyle, c.endpoint = true, *o.BaseEndpoint
		}
		o.DisableLogOutputChecksumValidationSkipped = true
	})
	c.region = cfg.Region
	return c, nil
}

// httpClient is one of the library's own kind where it may be, for only those take AWS_CA_BUNDLE.
func (p *s3Place) httpClient() config.HTTPClient {
	if t := p.r.opt.Transport; t != nil {
		return &http.Client{Transport: t}
	}
	return awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		tune(t)
		p.r.closes(t)
	})
}

// configured reports whether somebody means requests to be signed.
func configured() bool {
	return firstEnv("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE",
		"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI") != "" || os.Getenv("AWS_SHARED_CREDENTIALS_FILE") != ""
}

// try calls f with the client of the bucket, and again in another region when the bucket says that it is there.
func (p *s3Place) try(ctx context.Context, a address, f func(*s3Client) error) error {
	c, err := p.client(ctx, a, "")
	if err != nil {
		return err
	}
	err = f(c)
	if to := elsewhere(err); to != "" && to != c.region && a.query.Get("region") == "" {
		if c, err = p.client(ctx, a, to); err != nil {
			return err
		}
		err = f(c)
	}
	return c.explain(a, err)
}

// elsewhere is the region that an answer sends us to, or "".
func elsewhere(err error) string {
	var answer *awshttp.ResponseError
	if !errors.As(err, &answer) || answer.Response == nil {
		return ""
	}
	switch answer.HTTPStatusCode() {
	case http.StatusMovedPermanently, http.StatusTemporaryRedirect, http.StatusBadRequest:
		return answer.Response.Header.Get("X-Amz-Bucket-Region")
	}
	return ""
}

// list implements objects.
func (p *s3Place) list(ctx context.Context, a address) (found []object, single bool, err error) {
	if !a.glob && a.key != "" && !strings.HasSuffix(a.key, "/") {
		o, err := p.head(ctx, a)
		if err == nil {
			return []object{o}, true, nil
		}
		if !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrDenied) || a.query.Get("version") != "" {
			return nil, false, err
		}
		// No such object: a folder of that name? An answer to HEAD has no text: what LIST says tells more.
		found, lerr := p.below(ctx, a, a.key+"/")
		if lerr != nil {
			return nil, false, lerr
		}
		if len(found) == 0 {
			return nil, false, err
		}
		return found, false, nil
	}
	found, err = p.below(ctx, a, prefixOf(a))
	return found, false, err
}

// prefixOf is what the keys of all that an address can mean begin with.
func prefixOf(a address) string {
	if !a.glob {
		return a.key
	}
	return a.key[:strings.IndexAny(a.key, `*[{`)]
}

func (p *s3Place) head(ctx context.Context, a address) (o object, err error) {
	err = p.try(ctx, a, func(c *s3Client) error {
		out, err := c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &a.host, Key: &a.key, VersionId: optional(a.query.Get("version"))})
		if err == nil {
			o = object{Path: a.name(), Key: a.key, ID: aws.ToString(out.ETag), Size: aws.ToInt64(out.ContentLength)}
		}
		return err
	})
	return o, err
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// below lists the objects whose keys begin with prefix.
func (p *s3Place) below(ctx context.Context, a address, prefix string) (found []object, err error) {
	err = p.try(ctx, a, func(c *s3Client) error {
		found = nil
		pages := s3.NewListObjectsV2Paginator(c, &s3.ListObjectsV2Input{Bucket: &a.host, Prefix: &prefix})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return err
			}
			for _, o := range page.Contents {
				found = append(found, object{Key: aws.ToString(o.Key), ID: aws.ToString(o.ETag), Size: aws.ToInt64(o.Size)})
			}
			if len(found) > 2*p.r.opt.MaxObjects {
				return fmt.Errorf("it has more than %d objects; name fewer with a longer prefix", p.r.opt.MaxObjects)
			}
		}
		return nil
	})
	return found, err
}

// get implements objects.
func (p *s3Place) get(ctx context.Context, a address, o object, at int64) (body io.ReadCloser, from int64, err error) {
	err = p.try(ctx, a, func(c *s3Client) error {
		in := &s3.GetObjectInput{Bucket: &a.host, Key: &o.Key, IfMatch: optional(o.ID), VersionId: optional(a.query.Get("version"))}
		if at > 0 {
			in.Range = aws.String(fmt.Sprintf("bytes=%d-", at))
		}
		out, err := c.GetObject(ctx, in)
		if err != nil {
			return err
		}
		body = out.Body
		// A server that does not know If-Match gives what it has.
		if id := aws.ToString(out.ETag); id != o.ID && o.ID != "" && id != "" {
			return errors.Join(fmt.Errorf("%w: its ETag was %s and is %s", ErrChanged, o.ID, id), body.Close())
		}
		if out.ContentRange != nil {
			from, err = rangeStart(*out.ContentRange)
		}
		if err != nil {
			return errors.Join(err, body.Close())
		}
		return nil
	})
	return body, from, err
}

// explain says what an answer means.
func (c *s3Client) explain(a address, err error) error {
	var api smithy.APIError
	var answer *awshttp.ResponseError
	var done kinded
	if err == nil || errors.As(err, &done) || errors.Is(err, ErrChanged) {
		return err
	}
	status := 0
	if errors.As(err, &answer) && answer.Response != nil {
		status = answer.HTTPStatusCode()
	}
	if !errors.As(err, &api) {
		var sent *smithyhttp.RequestSendError
		var via *url.Error
		switch {
		case errors.As(err, &via): // its own text has the address, and the library's three lines about itself
			return via.Err
		case errors.As(err, &sent):
			return sent.Err
		case status == 0:
			return err
		}
		return fmt.Errorf("S3 answers %d: %w", status, err)
	}
	at := "bucket " + a.host
	if c.endpoint != "" {
		at += " at " + c.endpoint
	}
	e := &Error{Place: a.text, Err: fmt.Errorf("%s: S3 answers %s", at, told(status, api))}
	switch api.ErrorCode() {
	case "NoSuchBucket":
		e.Err, e.Next = kinded{ErrNotFound, fmt.Errorf("there is no %s", at)}, "check its name, and the endpoint and account that the environment sets (AWS_ENDPOINT_URL, AWS_PROFILE)"
	case "NoSuchKey", "NotFound", "NoSuchVersion":
		e.Err, e.Next = kinded{ErrNotFound, fmt.Errorf("%s has no such object", at)}, "check the key; a folder is named with a slash at its end"
	case "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken",
		"XAdminUserNotFound": // versitygw's word for the first
		e.Err, e.Next = kinded{ErrDenied, e.Err}, "the credentials are wrong or out of date: check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or log in again (aws sso login)"
	case "AccessDenied", "Forbidden", "AllAccessDisabled", "AccountProblem":
		e.Err, e.Next = kinded{ErrDenied, e.Err}, "the credentials need the rights s3:GetObject and s3:ListBucket there"
		if c.anonymous {
			e.Next = "the request was not signed, as the address asks: remove anonymous=true, or make the bucket public"
		}
		if c.unsigned != nil {
			e.Next = "no credentials were found and the bucket is not public: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
		}
	case "RequestTimeTooSkewed":
		e.Err, e.Next = kinded{ErrDenied, e.Err}, "the clock of this machine or of the server is wrong: set it (timedatectl set-ntp true)"
	case "PermanentRedirect", "MovedPermanently", "TemporaryRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "BadRequest":
		e.Next = fmt.Sprintf("is the bucket in another region than %s? Set AWS_REGION, or write ?region=… behind the address", c.region)
		if r := elsewhere(err); r != "" {
			e.Next = fmt.Sprintf("the bucket is in %s and %s was asked: write ?region=%s behind the address, or leave the option out", r, c.region, r)
		}
	case "PreconditionFailed":
		return fmt.Errorf("%w: another version is there", ErrChanged)
	case "InvalidRange":
		return fmt.Errorf("%w: it is shorter now", ErrChanged)
	case "InvalidObjectState":
		e.Next = "the object is archived: restore it first"
	default:
		if status >= 500 || status == http.StatusTooManyRequests || api.ErrorCode() == "SlowDown" {
			return &busyError{err: e.Err}
		}
	}
	return e
}

// told is an answer in a few words.
func told(status int, api smithy.APIError) string {
	text := fmt.Sprintf("%d %s", status, api.ErrorCode())
	if m := api.ErrorMessage(); m != "" && m != api.ErrorCode() {
		text += ": " + strings.TrimSuffix(m, ".")
	}
	return text
}
