package certes

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"os"
	"strings"
)

// tlsFiles are what settings name for TLS: the authorities that are trusted, and the certificate that is shown with its key. A client
// reads them when it is made, so that a mistake is told where it was made, and again whenever it connects: others renew them.
type tlsFiles struct {
	authorities, certificate, key []byte // as PEM; nil where none is named
	config                        *tls.Config
}

// readTLSFiles reads the files and tries them out. What does not fit together is refused by the name of its setting.
func readTLSFiles(s *settings) (*tlsFiles, error) {
	files := &tlsFiles{config: &tls.Config{MinVersion: tls.VersionTLS12}}
	for _, one := range []struct {
		setting, path string
		content       *[]byte
	}{
		{"ca_file", s.caFile, &files.authorities},
		{"certificate", s.certificate, &files.certificate},
		{"certificate_key", s.certificateKey, &files.key},
	} {
		if one.path == "" {
			continue
		}
		content, err := os.ReadFile(one.path)
		if err != nil {
			return nil, invalidField(one.setting, "cannot be read: %v", err)
		}
		*one.content = content
	}
	if s.caFile != "" {
		files.config.RootCAs = x509.NewCertPool()
		if !files.config.RootCAs.AppendCertsFromPEM(files.authorities) {
			return nil, invalidField("ca_file", "%s holds no certificate in PEM", s.caFile)
		}
	}
	if s.certificate != "" {
		pair, err := s.readPair(files)
		if err != nil {
			return nil, err
		}
		files.config.Certificates = []tls.Certificate{pair}
	}
	return files, nil
}

func (s *settings) readPair(files *tlsFiles) (tls.Certificate, error) {
	pair, err := tls.X509KeyPair(files.certificate, files.key)
	switch {
	case err == nil:
		return pair, nil
	case !holdsCertificate(files.certificate):
		return pair, invalidField("certificate", "%s holds no certificate in PEM", s.certificate)
	case strings.Contains(err.Error(), "does not match"):
		return pair, invalidField("certificate_key", "%s is not the key of the certificate in %s", s.certificateKey, s.certificate)
	}
	return pair, invalidField("certificate_key", "%s holds no private key in PEM, without a passphrase: %v", s.certificateKey, err)
}

// holdsCertificate says whether the first certificate of a PEM file is one. crypto/tls does not say which of two files is at fault.
func holdsCertificate(content []byte) bool {
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			_, err := x509.ParseCertificate(block.Bytes)
			return err == nil
		}
	}
	return false
}

// equal says whether the same was in the files.
func (f *tlsFiles) equal(other *tlsFiles) bool {
	return bytes.Equal(f.authorities, other.authorities) && bytes.Equal(f.certificate, other.certificate) && bytes.Equal(f.key, other.key)
}
