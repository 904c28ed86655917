module github.com/btns-ipsec/btns

go 1.26
