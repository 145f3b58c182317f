// Package sources tests where data comes from on real servers: buckets of S3, of Google Cloud Storage and of Azure, web servers and
// registries, with files of real size.
package sources
