// Package s3 keeps a state in a bucket of S3, or of a server that speaks its
// protocol and keeps the conditions of a write (If-Match, If-None-Match).
//
// Credentials come from where AWS's own tools take them: environment, shared
// files, roles. None stands in a project's files. Its main entry is [New].
package s3

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/continuo-ml/continuo/state/remote"
)

// Options say which bucket.
type Options struct {
	Bucket string
	// Prefix is what the names of all objects begin with; a slash follows it. ""
	// uses the whole bucket.
	Prefix string
	// Region and Endpoint override what the environment says; "" leaves it.
	Region, Endpoint string
	// Within bounds one request; 0 means 20 s.
	Within time.Duration
	// Transport carries the requests, for tests; nil means the library's own.
	Transport http.RoundTripper
}

// limit is the largest object, far below what S3 takes: a part of one entry of
// the largest size fits.
const limit = 64 << 20

// Bucket is a bucket, or what lies below a prefix in it. It implements remote.Blobs.
type Bucket struct {
	opts Options

	mu     sync.Mutex
	client *s3.Client
	region string
	at     string // the endpoint, "" = AWS's own
}

var _ remote.Blobs = (*Bucket)(nil)

// New returns the bucket. It asks nothing before the first use.
func New(o Options) *Bucket {
	if o.Within == 0 {
		o.Within = 20 * time.Second
	}
	if o.Prefix = strings.Trim(o.Prefix, "/"); o.Prefix != "" {
		o.Prefix += "/"
	}
	return &Bucket{opts: o}
}

// Where implements remote.Blobs.
func (b *Bucket) Where() string {
	return strings.TrimSuffix("s3://"+b.opts.Bucket+"/"+b.opts.Prefix, "/")
}

// Limit implements remote.Blobs.
func (b *Bucket) Limit() int { return limit }

// connect makes the client when it is first needed, because credentials may take requests.
func (b *Bucket) connect(ctx context.Context) (*s3.Client, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.client != nil {
		return b.client, nil
	}
	load := []func(*config.LoadOptions) error{
		config.WithLogger(logging.Nop{}),
		// The second attempt is for a clock that is wrong; all others are the caller's, who knows what may be sent twice.
		config.WithRetryer(func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) {
				o.MaxAttempts, o.Retryables = 2, []retry.IsErrorRetryable{retry.RetryableErrorCode{Codes: map[string]struct{}{"RequestTimeTooSkewed": {}}}}
			})
		}),
	}
	if b.opts.Region != "" {
		load = append(load, config.WithRegion(b.opts.Region))
	}
	if b.opts.Transport != nil {
		load = append(load, config.WithHTTPClient(&http.Client{Transport: b.opts.Transport}))
	}
	cfg, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, fmt.Errorf("read the configuration of AWS: %w; check AWS_PROFILE and ~/.aws/config", err)
	}
	if _, err := cfg.Credentials.Retrieve(ctx); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("get credentials for %s: %w; set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or log in again (aws sso login)", b.Where(), err)
	}
	cfg.Region = cmp.Or(cfg.Region, "us-east-1")
	b.region = cfg.Region
	b.client = s3.NewFromConfig(cfg, func(o *s3.Options) {
		if b.opts.Endpoint != "" {
			o.BaseEndpoint = &b.opts.Endpoint
		}
		if o.BaseEndpoint != nil { // other servers than AWS's seldom have a host name for each bucket
			o.UsePathStyle, b.at = true, *o.BaseEndpoint
		}
		// Every object is verified by our own digest; some servers do not know the library's trailing checksums.
		o.RequestChecksumCalculation, o.ResponseChecksumValidation = aws.RequestChecksumCalculationWhenRequired, aws.ResponseChecksumValidationWhenRequired
		o.DisableLogOutputChecksumValidationSkipped = true
	})
	return b.client, nil
}

// do makes one request with a deadline of its own.
func (b *Bucket) do(ctx context.Context, doing string, f func(context.Context, *s3.Client) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	within, cancel := context.WithTimeout(ctx, b.opts.Within)
	defer cancel()
	c, err := b.connect(within)
	if err == nil {
		err = f(within, c)
	}
	if err == nil || errors.Is(err, remote.ErrAbsent) {
		return err
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", doing, context.Cause(ctx))
	}
	if within.Err() != nil {
		return fmt.Errorf("%s: %w: nothing came within %s", doing, remote.ErrBusy, b.opts.Within)
	}
	return b.explain(doing, err)
}

// Get implements remote.Blobs.
func (b *Bucket) Get(ctx context.Context, name string) (data []byte, version string, err error) {
	key := b.opts.Prefix + name
	err = b.do(ctx, "read "+key, func(ctx context.Context, c *s3.Client) error {
		out, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: &b.opts.Bucket, Key: &key})
		if err != nil {
			return err
		}
		data, err = io.ReadAll(io.LimitReader(out.Body, 2*limit))
		if err = errors.Join(err, out.Body.Close()); err != nil {
			return fmt.Errorf("%w: %w", remote.ErrBusy, err) // it broke off
		}
		version = aws.ToString(out.ETag)
		return nil
	})
	return data, version, err
}

// Put implements remote.Blobs.
func (b *Bucket) Put(ctx context.Context, name string, data []byte, at string) (version string, err error) {
	key := b.opts.Prefix + name
	in := &s3.PutObjectInput{Bucket: &b.opts.Bucket, Key: &key, Body: bytes.NewReader(data), IfMatch: &at, ContentType: aws.String("application/octet-stream")}
	if at == "" {
		in.IfMatch, in.IfNoneMatch = nil, aws.String("*")
	}
	err = b.do(ctx, "write "+key, func(ctx context.Context, c *s3.Client) error {
		out, err := c.PutObject(ctx, in)
		if err == nil {
			version = aws.ToString(out.ETag)
		}
		return err
	})
	if errors.Is(err, remote.ErrAbsent) && at != "" { // the object that it was to replace is gone
		err = remote.ErrPassed
	}
	if err == nil && version == "" {
		err = fmt.Errorf("write %s: the server gives no ETag, without which no later write can tell what it replaces; keep the state elsewhere", key)
	}
	return version, err
}

// Delete implements remote.Blobs.
func (b *Bucket) Delete(ctx context.Context, name string) error {
	key := b.opts.Prefix + name
	err := b.do(ctx, "delete "+key, func(ctx context.Context, c *s3.Client) error {
		_, err := c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.opts.Bucket, Key: &key})
		return err
	})
	if errors.Is(err, remote.ErrAbsent) {
		err = nil
	}
	return err
}

// List implements remote.Blobs.
func (b *Bucket) List(ctx context.Context, prefix string) (found []remote.Info, err error) {
	key := b.opts.Prefix + prefix
	err = b.do(ctx, "list "+key, func(ctx context.Context, c *s3.Client) error {
		found = nil
		pages := s3.NewListObjectsV2Paginator(c, &s3.ListObjectsV2Input{Bucket: &b.opts.Bucket, Prefix: &key})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return err
			}
			for _, o := range page.Contents {
				found = append(found, remote.Info{Name: strings.TrimPrefix(aws.ToString(o.Key), b.opts.Prefix), Modified: aws.ToTime(o.LastModified)})
			}
		}
		return nil
	})
	return found, err
}

// Check implements remote.Blobs.
func (b *Bucket) Check(ctx context.Context) error { return remote.CheckConditions(ctx, b) }

// explain says what an answer means, and what to do.
func (b *Bucket) explain(doing string, err error) error {
	var api smithy.APIError
	var answer *awshttp.ResponseError
	status := 0
	if errors.As(err, &answer) && answer.Response != nil {
		status = answer.HTTPStatusCode()
	}
	if !errors.As(err, &api) {
		var sent *smithyhttp.RequestSendError
		var via *url.Error
		switch {
		case errors.As(err, &via): // its own text repeats method and address
			return fmt.Errorf("%s: %w: %w", doing, remote.ErrBusy, via.Err)
		case errors.As(err, &sent):
			return fmt.Errorf("%s: %w: %w", doing, remote.ErrBusy, sent.Err)
		case status >= http.StatusInternalServerError || errors.Is(err, remote.ErrBusy):
			return fmt.Errorf("%s: %w: %w", doing, remote.ErrBusy, err)
		}
		return fmt.Errorf("%s: %w", doing, err)
	}
	code := api.ErrorCode()
	said := fmt.Sprintf("%d %s", status, code)
	if m := api.ErrorMessage(); m != "" && m != code {
		said += ": " + strings.TrimSuffix(m, ".")
	}
	told := fmt.Errorf("%s: S3%s answers %s", doing, b.place(), said)
	switch code {
	case "PreconditionFailed":
		return remote.ErrPassed
	case "NoSuchKey", "NotFound":
		return remote.ErrAbsent
	case "ConditionalRequestConflict":
		return fmt.Errorf("%w: %w", remote.ErrBusy, told) // another write to the object was under way
	case "NoSuchBucket":
		return fmt.Errorf("%s: there is no bucket %s%s; make it, or check `bucket`, `endpoint` and what AWS_ENDPOINT_URL and AWS_PROFILE say", doing, b.opts.Bucket, b.place())
	case "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken",
		"XAdminUserNotFound": // versitygw's word for the first
		return fmt.Errorf("%w; the credentials are wrong or out of date: check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or log in again (aws sso login)", told)
	case "AccessDenied", "Forbidden", "AllAccessDisabled", "AccountProblem":
		return fmt.Errorf("%w; the credentials need s3:GetObject, s3:PutObject and s3:DeleteObject on %s/* and s3:ListBucket on the bucket", told, b.Where())
	case "RequestTimeTooSkewed":
		return fmt.Errorf("%w; the clock of this machine or of the server is wrong: set it (timedatectl set-ntp true)", told)
	case "PermanentRedirect", "MovedPermanently", "TemporaryRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "BadRequest":
		return fmt.Errorf("%w; is the bucket in another region than %s? Set `region` in the backend block, or AWS_REGION", told, b.region)
	case "NotImplemented":
		return fmt.Errorf("%w; that server does not know conditional writes, without which two applies could both win: keep the state elsewhere, or use a newer version of it", told)
	}
	if status >= http.StatusInternalServerError || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout || code == "SlowDown" {
		return fmt.Errorf("%w: %w", remote.ErrBusy, told)
	}
	return told
}

func (b *Bucket) place() string {
	if b.at == "" {
		return ""
	}
	return " at " + b.at
}
